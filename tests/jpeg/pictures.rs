//! Random pictures of every structure, for the encoder.

use crate::encoder::{Component, Picture, Scan, Tables};
use crate::random::Random;

/// Sampling factors, across and down, of luma and of both chroma components.
type Sampling = [(usize, usize); 3];

/// 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, 4:4:1, 4:1:0.
const USUAL: [Sampling; 7] = [
    [(1, 1), (1, 1), (1, 1)],
    [(2, 1), (1, 1), (1, 1)],
    [(2, 2), (1, 1), (1, 1)],
    [(1, 2), (1, 1), (1, 1)],
    [(4, 1), (1, 1), (1, 1)],
    [(1, 4), (1, 1), (1, 1)],
    [(4, 2), (1, 1), (1, 1)],
];
/// Factor 3, different chroma components, luma in fewer samples than chroma.
const UNUSUAL: [Sampling; 11] = [
    [(3, 1), (1, 1), (1, 1)],
    [(1, 3), (1, 1), (1, 1)],
    [(3, 2), (1, 2), (3, 1)],
    [(2, 2), (2, 1), (1, 2)],
    [(2, 2), (1, 2), (2, 2)],
    [(4, 2), (2, 1), (1, 2)],
    [(2, 2), (2, 2), (1, 1)],
    [(1, 1), (2, 2), (2, 2)],
    [(1, 1), (2, 1), (1, 2)],
    [(1, 2), (1, 1), (2, 2)],
    [(2, 1), (2, 2), (1, 1)],
];

/// `is_usual` leaves out what the crate that we are compared with does not read or reads otherwise.
pub fn random_picture(random: &mut Random, side_max: usize, is_usual: bool) -> Picture {
    let [width, height] = [0; 2].map(|_| {
        let side_max = if random.once_in(4) { 5 } else { side_max };
        1 + random.below(side_max)
    });
    let is_progressive = random.once_in(2);
    let components = random_components(random, is_usual, is_progressive);
    let is_wild = !is_usual && random.once_in(8);
    let quantisations = (0..2).map(|_| random_quantisation(random, is_wild)).collect();
    let tables = match (is_progressive, random.below(4)) {
        (false, 0) => Tables::Standard,
        (false, 1) if !is_usual => Tables::Absent,
        _ => Tables::Random,
    };
    let has_adobe = components.len() == 4 || random.once_in(4);
    let transform = if is_usual { [0, 2] } else { [0, 1 + random.below(2) as u8] };
    let mut picture = Picture {
        width,
        height,
        is_progressive,
        components,
        scans: Vec::new(),
        quantisations,
        tables,
        has_jfif: random.once_in(2),
        adobe_transform: has_adobe.then(|| random.choose(&transform)),
        has_junk: !is_usual && random.once_in(3),
    };
    picture.scans = random_scans(random, &picture, is_usual);
    fill(random, &mut picture, is_wild);
    picture
}

fn random_components(random: &mut Random, is_usual: bool, is_progressive: bool) -> Vec<Component> {
    let sampling =
        if is_usual || random.once_in(2) { random.choose(&USUAL) } else { random.choose(&UNUSUAL) };
    let component = |id: u8, (x_sampling, y_sampling): (usize, usize)| Component {
        id,
        x_sampling,
        y_sampling,
        table: u8::from(id % 4 > 1),
        blocks: Vec::new(),
    };
    let ids = match random.below(6) {
        0 => *b"RGBA",
        1 => [0, 1, 2, 3],
        // These can be told apart only where they share a scan.
        2 if !is_usual && !is_progressive && USUAL.contains(&sampling) => [1, 1, 1, 1],
        _ => [1, 2, 3, 4],
    };
    let len = if ids[0] == ids[1] { 3 } else { random.choose(&[1, 3, 3, 3, 4]) };
    // The crate takes no care of the sides of subsampled CMYK.
    let [luma, blue, red] = if is_usual && len == 4 { USUAL[0] } else { sampling };
    let all = [luma, blue, red, luma];
    let pairs = ids.into_iter().zip(all).take(len);
    pairs.map(|(id, sampling)| component(id, sampling)).collect()
}

fn random_quantisation(random: &mut Random, is_wild: bool) -> [u16; 64] {
    let strength = random.choose(&[1, 3, 20, 60]);
    let mut table = [0; 64];
    for (index, value) in table.iter_mut().enumerate() {
        *value = (1 + random.below(strength) + index * strength / 16) as u16;
        if is_wild && random.once_in(4) {
            *value = random.below(1 << 16) as u16;
        }
    }
    table
}

/// Groups of components that share a scan, of at most ten blocks an MCU.
fn random_groups(random: &mut Random, picture: &Picture) -> Vec<Vec<usize>> {
    let len = picture.components.len();
    let blocks_len = |group: &[usize]| -> usize {
        let component = |index: &usize| &picture.components[*index];
        group.iter().map(component).map(|c| c.x_sampling * c.y_sampling).sum()
    };
    // Of equal identifiers a scan names the first ones.
    let has_equal_ids = len > 1 && picture.components[0].id == picture.components[1].id;
    let mut groups: Vec<Vec<usize>> = vec![vec![]];
    for index in 0..len {
        let group = groups.last_mut().unwrap();
        let is_full = blocks_len(group) + blocks_len(&[index]) > 10;
        if !group.is_empty() && !has_equal_ids && (is_full || random.once_in(4)) {
            groups.push(vec![index]);
        } else {
            group.push(index);
        }
    }
    random.shuffle(&mut groups);
    groups
}

fn random_scans(random: &mut Random, picture: &Picture, is_usual: bool) -> Vec<Scan> {
    let mut groups = random_groups(random, picture);
    if is_usual && !picture.is_progressive && groups.len() > 1 {
        groups = (0..picture.components.len()).map(|index| vec![index]).collect();
    }
    let interval = random.choose(&[0, 0, 1, 2, 7]);
    let mut scan = |components: &[usize], first, last, high, low| Scan {
        components: components.to_vec(),
        first,
        last,
        high,
        low,
        restart_interval: if random.once_in(5) { 3 } else { interval },
    };
    if !picture.is_progressive {
        return groups.iter().map(|group| scan(group, 0, 63, 0, 0)).collect();
    }
    let mut scans = Vec::new();
    // Each chain in its order, and the constants' upper bits before all else.
    let mut chains: Vec<Vec<Scan>> = Vec::new();
    let lows = [0; 8].map(|_| scan(&[], 0, 0, 0, 0).restart_interval as u32 % 3);
    for (group, low) in groups.iter().zip(lows) {
        scans.push(scan(group, 0, 0, 0, low));
        chains.push((0..low).rev().map(|low| scan(group, 0, 0, low + 1, low)).collect());
    }
    for (index, low) in (0..picture.components.len()).zip(lows.into_iter().rev()) {
        for (first, last) in [(1, 5), (6, 63)] {
            let mut chain = vec![scan(&[index], first, last, 0, low)];
            chain.extend((0..low).rev().map(|low| scan(&[index], first, last, low + 1, low)));
            chains.push(chain);
        }
    }
    while chains.iter().any(|chain| !chain.is_empty()) {
        let chosen = random.below(chains.len());
        if !chains[chosen].is_empty() {
            scans.push(chains[chosen].remove(0));
        }
    }
    scans
}

/// Draws coefficients: fewer and smaller ones towards high frequencies.
fn fill(random: &mut Random, picture: &mut Picture, is_wild: bool) {
    let (mcus_wide, mcus_high) = picture.mcus();
    let density = random.choose(&[1, 4, 12, 40]);
    for component in &mut picture.components {
        let quantisation = &picture.quantisations[usize::from(component.table)];
        let len = mcus_wide * component.x_sampling * mcus_high * component.y_sampling;
        let mut block = || {
            let mut block = [0; 64];
            for (index, value) in block.iter_mut().enumerate() {
                if index > 0 && random.below(64) >= density + density / (1 + index / 4) {
                    continue;
                }
                let range = if index == 0 { 1000 } else { 400 / (1 + index / 8) };
                let range = range / usize::from(quantisation[index].max(1)) + 1;
                let range = if is_wild { 1000 } else { range.min(1000) };
                *value = random.below(2 * range + 1) as i16 - range as i16;
            }
            block
        };
        component.blocks = (0..len).map(|_| block()).collect();
    }
}
