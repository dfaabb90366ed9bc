//! Figures as SVG: panels in a grid under one legend, or one by one.
//!
//! A policy has the same colour in every panel, and nothing is marked where nothing was measured.
//! Colours follow the reader's light or dark mode. Knows nothing of what the figures mean.

use std::fmt::Write;
use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use twinstream::sim::experiment::{Axis, Figure, Panel, Series, Style};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const PANEL_SIZE: (u32, u32) = (460, 275);
/// A line of the legend.
const LEGEND_HEIGHT: u32 = 24;
/// A line's or a point's place in the legend.
const SWATCH_SIZE: (u32, u32) = (30, 16);
/// The title and what stands below it.
const TITLE_HEIGHT: u32 = 58;
const FONT: &str = "sans-serif";
const FIGURE_TITLE_SIZE: i32 = 19;
const TITLE_SIZE: i32 = 15;
const LABEL_SIZE: i32 = 13;
/// Characters of labels are some 7 pixels wide.
const CHARACTER_WIDTH: i32 = 7;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
const REFERENCE: RGBColor = RGBColor(0x55, 0x55, 0x55);

/// Colours that most colour-blind readers can tell apart (after Okabe and Ito), by policy.
const COLOURS: [(&str, RGBColor); 10] = [
    ("stream", RGBColor(0x00, 0x72, 0xb2)),
    ("jit", RGBColor(0x00, 0x9e, 0x73)),
    ("serial", RGBColor(0xd5, 0x5e, 0x00)),
    ("paper", RGBColor(0xcc, 0x79, 0xa7)),
    ("fixed", RGBColor(0xe6, 0x9f, 0x00)),
    ("fixed-eager", RGBColor(0x8c, 0x56, 0x4b)),
    ("adaptive", RGBColor(0x56, 0xb4, 0xe9)),
    ("aimd", RGBColor(0x7f, 0x7f, 0x7f)),
    ("deferred", RGBColor(0x8a, 0x8b, 0x1f)),
    ("deferred-drop", RGBColor(0x5b, 0x4f, 0xb0)),
];

/// What takes the place of colours that are lost on a dark ground.
const DARK: [(RGBColor, &str); 10] = [
    (WHITE, "#16181c"),
    (BLACK, "#dddddd"),
    (INK, "#dddddd"),
    (GRID, "#34383f"),
    (REFERENCE, "#b4b4b4"),
    (COLOURS[0].1, "#4ba3f0"),
    (COLOURS[1].1, "#2cc295"),
    (COLOURS[2].1, "#f28030"),
    (COLOURS[5].1, "#c49c94"),
    (COLOURS[6].1, "#a5e0ff"),
];

/// The rules by which charts follow dark mode, for wherever they stand.
pub(crate) fn dark_style() -> String {
    let mut rules = String::from("@media (prefers-color-scheme: dark) {");
    for (RGBColor(red, green, blue), dark) in DARK {
        for property in ["fill", "stroke"] {
            let colour = format!("#{red:02X}{green:02X}{blue:02X}");
            let _ = write!(rules, "svg [{property}=\"{colour}\"] {{{property}: {dark}}} ");
        }
    }
    rules + "}"
}

/// A series in the legend.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    style: Style,
    colour: RGBColor,
}

/// Draws a whole figure that stands alone: title, setting, legend, panels.
pub(crate) fn svg(figure: &Figure) -> anyhow::Result<String> {
    let legend = legend(figure);
    let (panel_width, panel_height) = PANEL_SIZE;
    let width = panel_width * (figure.column_len as u32).max(2);
    let (places, legend_height) = legend_places(&legend, width as i32);
    let row_len = figure.panels.len().div_ceil(figure.column_len);
    let top = TITLE_HEIGHT + legend_height;
    let size = (width, top + row_len as u32 * panel_height);
    let style = format!("<style>{}</style>", dark_style());
    drawn(size, figure.title, &style, |root| {
        root.fill(&WHITE)?;
        let text = |words: &str, size: i32, at: (i32, i32)| {
            let font = (FONT, size).into_font().color(&INK);
            root.draw(&Text::new(words.to_owned(), at, font))
        };
        text(figure.title, FIGURE_TITLE_SIZE, (16, 12))?;
        text(&figure.setting, LABEL_SIZE, (16, 37))?;
        for (entry, (left, line)) in legend.iter().zip(&places) {
            let at = (*left, (TITLE_HEIGHT + line * LEGEND_HEIGHT) as i32);
            draw_swatch(root, entry, at)?;
            let right = at.0 + SWATCH_SIZE.0 as i32 + 6;
            text(entry.name, LABEL_SIZE, (right, at.1 + 2))?;
        }
        let (_, rest) = root.split_vertically(top);
        let areas = rest.split_evenly((row_len, figure.column_len));
        figure.panels.iter().zip(&areas).try_for_each(|(panel, area)| draw(area, panel, &legend))
    })
}

/// Draws each panel alone, on no ground, for a page that has [`dark_style`].
pub(crate) fn panels(figure: &Figure) -> anyhow::Result<Vec<String>> {
    let legend = legend(figure);
    let panel = |panel: &Panel| {
        let title = format!("{}: {}", figure.title, panel.title);
        drawn(PANEL_SIZE, &title, "", |root| draw(root, panel, &legend))
    };
    figure.panels.iter().map(panel).collect()
}

/// Draws what stands for a series in a legend.
pub(crate) fn swatch(entry: &Entry<'_>) -> anyhow::Result<String> {
    drawn(SWATCH_SIZE, entry.name, "", |root| draw_swatch(root, entry, (0, 0)))
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A picture with a title for those who cannot see it.
fn drawn(
    size: (u32, u32),
    title: &str,
    style: &str,
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&root)
            .and_then(|()| root.present())
            .map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    let (tag, rest) = text.split_once('>').ok_or_else(|| anyhow!("cannot draw: no tag"))?;
    let title = escape(title);
    Ok(format!("{tag} role=\"img\"><title>{title}</title>{style}{rest}"))
}

/// Text as XML and HTML hold it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn draw(area: &Area<'_>, panel: &Panel, legend: &[Entry<'_>]) -> Drawn {
    let (x, y) = (span(&panel.x), span(&panel.y));
    let log = |axis: &Axis| span(axis).log_scale().with_key_points(log_ticks(axis.range));
    match (panel.x.is_log, panel.y.is_log) {
        (false, false) => draw_panel(area, panel, legend, x, y),
        (false, true) => draw_panel(area, panel, legend, x, log(&panel.y)),
        (true, false) => draw_panel(area, panel, legend, log(&panel.x), y),
        (true, true) => draw_panel(area, panel, legend, log(&panel.x), log(&panel.y)),
    }
}

fn span(axis: &Axis) -> Range<f64> {
    axis.range.0..axis.range.1
}

/// 1, 2 and 5 of each decade; of many decades, 1 alone; within one, some between.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let digits: &[f64] = match high / low {
        ratio if ratio > 2e3 => &[1.0],
        ratio if ratio > 10.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0],
    };
    let ticks = decades.flat_map(|decade| digits.iter().map(move |d| d * 10_f64.powi(decade)));
    // An edge may come out a rounding away.
    ticks.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect()
}

/// Each series once, in order of appearance, with its colour.
pub(crate) fn legend(figure: &Figure) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        if !entries.iter().any(|entry| entry.name == series.name) {
            let colour = colour(series, &entries);
            entries.push(Entry { name: &series.name, style: series.style, colour });
        }
    }
    entries
}

/// A policy's own colour, also for its prediction (`stream, simulated`); no two policies share one
/// while there are others.
fn colour(series: &Series, entries: &[Entry<'_>]) -> RGBColor {
    let policy_of = |name: &str| name.split(", ").next().unwrap_or_default().to_owned();
    let policy = policy_of(&series.name);
    let family = policy.split(':').next().unwrap_or_default();
    let known = COLOURS.iter().find(|(name, _)| *name == family).map(|(_, colour)| *colour);
    let is_prediction = series.name.contains(", ");
    let is_reference = match series.style {
        Style::Rings => true,
        Style::Dashed => known.is_none(),
        _ => is_prediction,
    };
    if is_reference {
        return if series.style == Style::Rings { INK } else { REFERENCE };
    }
    let of_policy = |entry: &&Entry<'_>| {
        policy_of(entry.name) == policy && ![INK, REFERENCE].contains(&entry.colour)
    };
    if let Some(entry) = entries.iter().find(of_policy) {
        return entry.colour;
    }
    let is_free = |colour: &RGBColor| entries.iter().all(|entry| entry.colour != *colour);
    let mut free = COLOURS.iter().map(|(_, colour)| *colour).filter(is_free);
    known
        .filter(is_free)
        .or_else(|| free.next())
        .unwrap_or(COLOURS[entries.len() % COLOURS.len()].1)
}

/// Where each entry of a legend stands (left edge, line), and how high they are together.
fn legend_places(legend: &[Entry<'_>], width: i32) -> (Vec<(i32, u32)>, u32) {
    const MARGIN: i32 = 16;
    let (mut left, mut line) = (MARGIN, 0);
    let mut places = Vec::new();
    for entry in legend {
        let text_width = CHARACTER_WIDTH * entry.name.chars().count() as i32;
        let entry_width = SWATCH_SIZE.0 as i32 + 6 + text_width;
        if left > MARGIN && left + entry_width > width - MARGIN {
            (left, line) = (MARGIN, line + 1);
        }
        places.push((left, line));
        left += entry_width + 20;
    }
    (places, (line + 1) * LEGEND_HEIGHT)
}

fn draw_swatch(area: &Area<'_>, entry: &Entry<'_>, (left, top): (i32, i32)) -> Drawn {
    let stroke = entry.colour.stroke_width(2);
    let middle = top + SWATCH_SIZE.1 as i32 / 2;
    let ends = [(left + 2, middle), (left + 28, middle)];
    let centre = (left + 15, middle);
    match entry.style {
        Style::Dashed => area.draw(&DashedPathElement::new(ends, 5, 4, stroke)),
        Style::Dots => area.draw(&Circle::new(centre, 3, entry.colour.filled())),
        Style::Rings => area.draw(&Circle::new(centre, RING_RADIUS, stroke)),
        Style::Line => area.draw(&PathElement::new(ends, stroke)),
        Style::Marked => {
            area.draw(&PathElement::new(ends, stroke))?;
            area.draw(&Circle::new(centre, 3, entry.colour.filled()))
        }
    }
}

/// Larger than a marker, which a ring goes around.
const RING_RADIUS: i32 = 6;

fn draw_panel<X, Y>(area: &Area<'_>, panel: &Panel, legend: &[Entry<'_>], x: X, y: Y) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, TITLE_SIZE).into_font().color(&INK))
        .margin(8)
        .margin_right(20)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(panel.x.label)
        .y_desc(panel.y.label)
        .x_labels(8)
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_label_formatter(&|value| label(*value))
        .y_label_formatter(&|value| label(*value))
        .label_style((FONT, LABEL_SIZE).into_font().color(&INK))
        .axis_desc_style((FONT, LABEL_SIZE).into_font().color(&INK))
        .draw()?;
    for series in &panel.series {
        let entry = legend.iter().find(|entry| entry.name == series.name);
        let colour = entry.map_or(REFERENCE, |entry| entry.colour);
        let stroke = colour.stroke_width(2);
        for line in lines_within(series, panel) {
            match series.style {
                Style::Dashed => {
                    chart.draw_series(DashedLineSeries::new(line, 5, 4, stroke))?;
                }
                _ => {
                    chart.draw_series(LineSeries::new(line, stroke))?;
                }
            }
        }
        let points = points_within(series, panel);
        let (radius, shape) = match series.style {
            Style::Marked => (3, colour.filled()),
            Style::Dots => (2, colour.mix(0.6).filled()),
            Style::Rings => (RING_RADIUS, stroke),
            Style::Line | Style::Dashed => continue,
        };
        chart.draw_series(points.map(|point| Circle::new(point, radius, shape)))?;
    }
    Ok(())
}

/// The points of a series that lie within its panel: what is marked was measured.
fn points_within(series: &Series, panel: &Panel) -> impl Iterator<Item = (f64, f64)> {
    let (x, y) = (panel.x.range, panel.y.range);
    let is_within =
        move |point: &(f64, f64)| (x.0..=x.1).contains(&point.0) && (y.0..=y.1).contains(&point.1);
    series.points.iter().copied().filter(is_within)
}

/// The stretches of a series' line that lie within its panel, cut where they leave it.
fn lines_within(series: &Series, panel: &Panel) -> Vec<Vec<(f64, f64)>> {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    if matches!(series.style, Style::Dots | Style::Rings) {
        return lines;
    }
    for pair in series.points.windows(2) {
        let Some((from, to)) = cut(pair[0], pair[1], panel) else { continue };
        match lines.last_mut() {
            Some(line) if line.last() == Some(&from) => line.push(to),
            _ => lines.push(vec![from, to]),
        }
    }
    lines
}

/// The part of a segment between the panel's lower and upper edge; none if there is none.
fn cut(from: (f64, f64), to: (f64, f64), panel: &Panel) -> Option<((f64, f64), (f64, f64))> {
    let scaled = |value: f64, axis: &Axis| if axis.is_log { value.ln() } else { value };
    let plain = |value: f64, axis: &Axis| if axis.is_log { value.exp() } else { value };
    let (low, high) = panel.y.range;
    let at_edge = |edge: f64| {
        let (y, x) = (|value| scaled(value, &panel.y), |value| scaled(value, &panel.x));
        let share = (y(edge) - y(from.1)) / (y(to.1) - y(from.1));
        (plain(x(from.0) + share * (x(to.0) - x(from.0)), &panel.x), edge)
    };
    let end = |point: (f64, f64), other: f64| match point.1 {
        y if (low..=high).contains(&y) => Some(point),
        y if y > high && other < high => Some(at_edge(high)),
        y if y < low && other > low => Some(at_edge(low)),
        _ => None,
    };
    end(from, to.1).zip(end(to, from.1))
}

/// A tick's number, without digits that say nothing.
fn label(value: f64) -> String {
    let decimals = if value.abs() < 0.01 { 5 } else { 2 };
    let text = format!("{value:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(is_log: bool) -> Panel {
        let axis = |range, is_log| Axis { label: "", range, is_log };
        let (x, y) = (axis((0.0, 10.0), false), axis((1.0, 100.0), is_log));
        Panel { title: String::new(), x, y, series: Vec::new() }
    }

    fn series(name: &str, style: Style, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), style, points: points.to_vec() }
    }

    #[test]
    fn a_clipped_line_ends_at_the_edge_and_is_marked_where_it_was_measured_alone() {
        let measured = [(1.0, 10.0), (2.0, 1_000.0), (3.0, 10.0), (4.0, 0.1), (5.0, 1_000.0)];
        let line = series("jit", Style::Marked, &measured);
        let marked: Vec<_> = points_within(&line, &panel(true)).collect();
        assert_eq!(marked, [(1.0, 10.0), (3.0, 10.0)]);
        let expected = [
            vec![(1.0, 10.0), (1.5, 100.0)],
            vec![(2.5, 100.0), (3.0, 10.0), (3.5, 1.0)],
            // Both ends lie outside, what is between them does not.
            vec![(4.25, 1.0), (4.75, 100.0)],
        ];
        let found = lines_within(&line, &panel(true));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            let off = (found.0 - expected.0).abs() + (found.1 - expected.1).abs();
            assert!(off < 1e-9, "{found:?} is not {expected:?}");
        }
        let linear = lines_within(&line, &panel(false));
        assert!((linear[0][1].0 - (1.0 + 90.0 / 990.0)).abs() < 1e-9, "{linear:?}");
    }

    #[test]
    fn what_is_not_a_line_has_none_and_what_lies_outside_has_nothing() {
        let dots = series("jit", Style::Dots, &[(1.0, 10.0), (2.0, 20.0)]);
        assert!(lines_within(&dots, &panel(true)).is_empty());
        assert_eq!(points_within(&dots, &panel(true)).count(), 2);
        let outside = series("jit", Style::Marked, &[(1.0, 200.0), (2.0, f64::NAN), (3.0, 0.5)]);
        assert!(lines_within(&outside, &panel(true)).is_empty());
        assert_eq!(points_within(&outside, &panel(true)).count(), 0);
    }

    #[test]
    fn every_policy_has_a_colour_of_its_own_and_shares_it_with_its_prediction() {
        let names = ["jit, simulated", "jit", "fixed:len=8", "fixed:len=64", "stream"];
        let styled = |name: &&str| {
            let style = if name.contains(", ") { Style::Dashed } else { Style::Marked };
            series(name, style, &[])
        };
        let mut panel = panel(true);
        panel.series = names.iter().map(styled).collect();
        let figure = Figure {
            name: "",
            title: "",
            setting: String::new(),
            caption: String::new(),
            panels: vec![panel],
            column_len: 1,
            table: Default::default(),
        };
        let colours: Vec<RGBColor> = legend(&figure).iter().map(|entry| entry.colour).collect();
        assert_eq!(colours[0], colours[1]);
        for (index, colour) in colours[1..].iter().enumerate() {
            assert!(!colours[index + 2..].contains(colour), "{}", names[index + 1]);
        }
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_and_each_once() {
        assert_eq!(log_ticks((0.7, 40.0)), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(log_ticks((0.9, 2.1)), [1.0, 1.2, 1.5, 2.0]);
        let decades: Vec<String> = log_ticks((1e-4, 1.0)).into_iter().map(label).collect();
        assert_eq!(decades, ["0.0001", "0.001", "0.01", "0.1", "1"]);
    }

    #[test]
    fn a_chart_names_its_setting_and_follows_dark_mode() {
        let figure = Figure {
            name: "",
            title: "Load & latency",
            setting: "simulated · h100 · seed 7".to_owned(),
            caption: String::new(),
            panels: vec![panel(true)],
            column_len: 1,
            table: Default::default(),
        };
        let svg = svg(&figure).unwrap();
        assert!(svg.contains("simulated · h100 · seed 7") && svg.contains("prefers-color-scheme"));
        assert!(svg.contains("role=\"img\"><title>Load &amp; latency</title>"), "{svg}");
    }
}
