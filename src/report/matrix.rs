//! A confusion matrix as a picture.

use super::canvas::{FONT, encode, register, with_outlines};
use crate::ui::short;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width and height of the picture, in pixels.
const SIZE: (u32, u32) = (900, 900);
/// Space for the names of the classes at the left and at the bottom, and for the title at the top, in pixels.
const NAMES: i32 = 130;
const TOP: i32 = 60;
const MARGIN: i32 = 16;
/// The largest number of classes whose names and counts can be read.
pub const MOST_READABLE: usize = 20;

/// The colour of images that were classified correctly, and of the others.
const RIGHT: [f64; 3] = [0.0, 114.0, 178.0];
const WRONG: [f64; 3] = [213.0, 94.0, 0.0];

/// How dark a cell is that holds this share of its class's images. The square root makes a few mistakes visible.
pub fn strength(share: f64) -> f64 {
    share.clamp(0.0, 1.0).sqrt()
}

/// The share of a class's images that a cell of its row holds.
pub fn share(count: u64, row: &[u64]) -> f64 {
    count as f64 / row.iter().sum::<u64>().max(1) as f64
}

/// The matrix as a PNG file. `confusion` counts images by `[true class][predicted class]`.
///
/// # Errors
/// The picture cannot be drawn.
pub fn png(confusion: &[Vec<u64>], names: &[String]) -> Result<Vec<u8>> {
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    let backend = BitMapBackend::with_buffer(&mut pixels, SIZE);
    draw(&backend.into_drawing_area(), confusion, names)?;
    encode(&pixels, SIZE)
}

/// The matrix as text of SVG. `confusion` counts images by `[true class][predicted class]`.
///
/// # Errors
/// The picture cannot be drawn.
pub fn svg(confusion: &[Vec<u64>], names: &[String]) -> Result<String> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), confusion, names)?;
    Ok(with_outlines(&text))
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    confusion: &[Vec<u64>],
    names: &[String],
) -> Result<()>
where
    B::ErrorType: 'static,
{
    register();
    let failed = |error: DrawingAreaErrorKind<B::ErrorType>| anyhow!("{error}");
    area.fill(&WHITE).map_err(failed)?;
    let centred = |size: i32, anchor: Pos| (FONT, size).into_font().color(&BLACK).pos(anchor);
    let middle = Pos::new(HPos::Center, VPos::Center);
    let title = "Confusion matrix: true class by row, predicted class by column";
    let width = SIZE.0 as i32;
    area.draw(&Text::new(title, (width / 2, TOP / 2), centred(24, middle))).map_err(failed)?;

    let readable = names.len() <= MOST_READABLE;
    let count = names.len().max(1) as i32;
    let left = if readable { NAMES } else { MARGIN };
    let side = (width - left - MARGIN).min(SIZE.1 as i32 - TOP - left);
    let edge = |index: usize| index as i32 * side / count;
    let letters = (side / count / 3).clamp(9, 18);
    for (row, counts) in confusion.iter().enumerate() {
        for (column, &images) in counts.iter().enumerate() {
            let from = (left + edge(column), TOP + edge(row));
            let to = (left + edge(column + 1), TOP + edge(row + 1));
            let dark = strength(share(images, counts));
            let colour = mixed(if row == column { RIGHT } else { WRONG }, dark);
            area.draw(&Rectangle::new([from, to], colour.filled())).map_err(failed)?;
            if readable && images > 0 {
                let ink = if dark > 0.6 { &WHITE } else { &BLACK };
                let style = (FONT, letters).into_font().color(ink).pos(middle);
                let centre = ((from.0 + to.0) / 2, (from.1 + to.1) / 2);
                area.draw(&Text::new(images.to_string(), centre, style)).map_err(failed)?;
            }
        }
    }
    area.draw(&Rectangle::new([(left, TOP), (left + side, TOP + side)], BLACK.mix(0.3)))
        .map_err(failed)?;
    if !readable {
        return area.present().map_err(failed);
    }
    let right = Pos::new(HPos::Right, VPos::Center);
    for (class, name) in names.iter().enumerate() {
        let name: String = short(name).chars().take(14).collect();
        let along = (edge(class) + edge(class + 1)) / 2;
        let beside = Text::new(name.clone(), (left - 8, TOP + along), centred(15, right));
        area.draw(&beside).map_err(failed)?;
        let turned = (FONT, 15).into_font().transform(FontTransform::Rotate270);
        let turned = turned.color(&BLACK).pos(right);
        let below = Text::new(name, (left + along, TOP + side + 8), turned);
        area.draw(&below).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// A colour between white and `colour`.
fn mixed(colour: [f64; 3], share: f64) -> RGBColor {
    let [red, green, blue] = colour.map(|part| (255.0 + (part - 255.0) * share) as u8);
    RGBColor(red, green, blue)
}
