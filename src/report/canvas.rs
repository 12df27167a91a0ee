//! What all drawings share: the font, and PNG files.

use super::outlines::outlined;
use anyhow::Result;
use plotters::style::{FontStyle, register_font};
use std::sync::Once;

/// The name of the font, after [`register`].
pub(super) const FONT: &str = "sans-serif";

/// Makes the font known. Text is measured and drawn with it, so that no font of the system is needed.
pub(super) fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

/// An SVG whose text is drawn with the same font.
pub(super) fn with_outlines(svg: &str) -> String {
    outlined(svg, epaint_default_fonts::UBUNTU_LIGHT)
}

/// A PNG file of bytes `[H, W, 3]`.
///
/// # Errors
/// There are not as many bytes as this width and height need.
pub(super) fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
