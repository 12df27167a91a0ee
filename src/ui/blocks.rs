//! A small image as coloured half blocks on a terminal.

use console::{Color, style};

/// Lines of half blocks for an image of bytes `[C, H, W]` with 1 or 3 channels: a character shows two pixels, one above
/// the other. Uses the 256 colours that nearly every terminal has.
pub fn half_blocks(pixels: &[u8], channels: usize, width: usize) -> Vec<String> {
    let plane = pixels.len() / channels.max(1);
    let colour = |place: usize| {
        let byte = |channel: usize| pixels.get(channel * plane + place).copied().unwrap_or(0);
        match channels {
            1 => grey(byte(0)),
            _ => cube([byte(0), byte(1), byte(2)]),
        }
    };
    let rows: Vec<usize> = (0..plane).step_by(width.max(1)).collect();
    rows.chunks(2)
        .map(|pair| {
            let (upper, lower) = match *pair {
                [upper, lower] => (upper, Some(lower)),
                [upper] => (upper, None),
                _ => (0, None),
            };
            let block = |column: usize| {
                let block = style('▀').force_styling(true).fg(colour(upper + column));
                match lower {
                    Some(lower) => block.bg(colour(lower + column)).to_string(),
                    None => block.to_string(),
                }
            };
            (0..width).map(block).collect()
        })
        .collect()
}

/// The nearest of the 24 greys, which have the numbers from 232.
fn grey(byte: u8) -> Color {
    Color::Color256(232 + (u16::from(byte) * 23 / 255) as u8)
}

/// The nearest colour of the cube of 6×6×6 colours, which have the numbers from 16.
fn cube(bytes: [u8; 3]) -> Color {
    let [red, green, blue] = bytes.map(|byte| (u16::from(byte) * 5 + 127) / 255);
    Color::Color256((16 + 36 * red + 6 * green + blue) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_shows_two_pixels() {
        let lines = half_blocks(&[0, 255, 255, 0, 0, 0], 1, 2);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].matches('▀').count(), 2);
        // White over black: 38 is the colour of the upper pixel, 48 that of the lower one.
        assert!(lines[0].contains("38;5;255") && lines[0].contains("48;5;232"), "{:?}", lines[0]);
        assert!(!lines[1].contains("48;5"), "{:?}", lines[1]);
        let red = half_blocks(&[255, 0, 0], 3, 1);
        assert!(red[0].contains("38;5;196"), "{:?}", red[0]);
    }
}
