//! From an image file to the u8 RGB pixels that the engine takes: decode, resize, centre crop.
