//! In which order a panel holds its 64 channels.

/// The channel of 8-bit integers at a place. Packs of 512-bit registers narrow each 16 bytes by
/// themselves: of four registers, 16 channels lie one after another if each register has four.
pub(super) fn of_integers(place: usize) -> usize {
    let (register, lane) = (place / 16, place % 16);
    lane / 4 * 16 + register * 4 + lane % 4
}
