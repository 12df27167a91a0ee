//! Contact sheets: many small images in a grid, with captions, as a PNG file.

use super::canvas::{FONT, encode, register};
use crate::data::pictures::Picture;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Images in a grid.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// What it shows; long text gets several lines.
    pub title: String,
    /// The rows, from top to bottom.
    pub rows: Vec<Row>,
}

/// A row of cells.
#[derive(Debug, Clone)]
pub struct Row {
    /// A text to the left of the cells; may be empty.
    pub label: String,
    /// The cells, from left to right. Rows need not have the same number of cells.
    pub cells: Vec<Cell>,
}

/// A place of the grid.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Images side by side. All cells of a sheet should have the same number of images.
    pub pictures: Vec<Picture>,
    /// Lines of text below the images. A line that is too long for the cell is cut.
    pub caption: Vec<String>,
}

/// Images are enlarged by the largest whole factor that leaves the largest image at most as high and wide as this.
const SMALL: usize = 64;
/// Pixels between two pictures of a cell.
const IN_CELL: usize = 4;
/// Pixels between two cells.
const GAP: usize = 14;
/// Pixels around everything.
const MARGIN: usize = 20;
/// The least width of a sheet, in pixels, so that its title can be read.
const LEAST_WIDTH: usize = 360;
/// The largest width of the labels, in pixels.
const MOST_LABEL: usize = 200;

/// A size of text.
struct Text {
    /// Height of the letters, in pixels.
    size: u32,
    /// Height of a line, in pixels.
    line: usize,
    colour: RGBColor,
}

const TITLE: Text = Text { size: 18, line: 24, colour: BLACK };
const LABEL: Text = Text { size: 16, line: 20, colour: BLACK };
const CAPTION: Text = Text { size: 13, line: 16, colour: RGBColor(50, 50, 50) };

/// Where things are on a sheet. Lengths are in pixels.
struct Layout {
    /// Height and width of the square for each picture.
    side: usize,
    /// Width of the column of labels.
    labels: usize,
    cell_width: usize,
    width: usize,
    title: Vec<String>,
    /// The top of each row.
    tops: Vec<usize>,
    height: usize,
}

impl Row {
    /// The cells in rows of `columns`, without labels.
    pub fn grid(cells: Vec<Cell>, columns: usize) -> Vec<Self> {
        let mut cells = cells.into_iter();
        std::iter::from_fn(|| {
            let row: Vec<Cell> = cells.by_ref().take(columns.max(1)).collect();
            (!row.is_empty()).then(|| Self { label: String::new(), cells: row })
        })
        .collect()
    }
}

impl Sheet {
    /// The sheet as a PNG file. Small images are enlarged by whole factors, so that each of their pixels is a square.
    ///
    /// # Errors
    /// The sheet is too large to be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        register();
        let layout = self.layout();
        let mut canvas = Canvas::new(layout.width, layout.height)?;
        for (row, &top) in self.rows.iter().zip(&layout.tops) {
            for (cell, left) in row.cells.iter().zip(layout.lefts()) {
                for (index, picture) in cell.pictures.iter().enumerate() {
                    canvas.put(picture, (left + index * (layout.side + IN_CELL), top), layout.side);
                }
            }
        }
        canvas.write(|area| self.write(&layout, area))
    }

    fn layout(&self) -> Layout {
        let cells = || self.rows.iter().flat_map(|row| &row.cells);
        let sides = cells().flat_map(|cell| &cell.pictures).map(|p| p.height.max(p.width));
        let largest = sides.max().unwrap_or(0).max(1);
        let side = largest * (SMALL / largest).max(1);
        let widths = self.rows.iter().map(|row| LABEL.width(&row.label).min(MOST_LABEL));
        let labels = match widths.max().unwrap_or(0) {
            0 => 0,
            widest => widest + GAP,
        };
        let pictures = cells().map(|cell| cell.pictures.len()).max().unwrap_or(0);
        let cell_width = (side + IN_CELL) * pictures.max(1) - IN_CELL;
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let width = 2 * MARGIN + labels + (columns * (cell_width + GAP)).saturating_sub(GAP);
        let width = width.max(LEAST_WIDTH);
        let title = TITLE.wrapped(&self.title, width - 2 * MARGIN);
        let mut top = MARGIN + title.len() * TITLE.line + if title.is_empty() { 0 } else { GAP };
        let mut tops = Vec::new();
        for row in &self.rows {
            tops.push(top);
            let lines = row.cells.iter().map(|cell| cell.caption.len()).max().unwrap_or(0);
            top += side + lines * CAPTION.line + GAP;
        }
        let height = if tops.is_empty() { top } else { top - GAP } + MARGIN;
        Layout { side, labels, cell_width, width, title, tops, height }
    }

    /// Writes all texts.
    fn write(&self, layout: &Layout, area: &Area) -> Result<()> {
        let tops = (MARGIN..).step_by(TITLE.line);
        for (line, top) in layout.title.iter().zip(tops) {
            TITLE.write(area, line, (MARGIN, top), VPos::Top)?;
        }
        for (row, &top) in self.rows.iter().zip(&layout.tops) {
            let label = LABEL.cut(&row.label, MOST_LABEL);
            LABEL.write(area, &label, (MARGIN, top + layout.side / 2), VPos::Center)?;
            for (cell, left) in row.cells.iter().zip(layout.lefts()) {
                let tops = (top + layout.side + 2..).step_by(CAPTION.line);
                for (line, top) in cell.caption.iter().zip(tops) {
                    let line = CAPTION.cut(line, layout.cell_width + GAP / 2);
                    CAPTION.write(area, &line, (left, top), VPos::Top)?;
                }
            }
        }
        Ok(())
    }
}

impl Layout {
    /// The left edge of each cell.
    fn lefts(&self) -> impl Iterator<Item = usize> {
        (MARGIN + self.labels..).step_by(self.cell_width + GAP)
    }
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

impl Text {
    /// Width of a text, in pixels.
    fn width(&self, text: &str) -> usize {
        let size = (FONT, self.size).into_font().box_size(text);
        size.map_or(0, |(width, _)| width as usize)
    }

    /// The text, or as much of it as is at most `most` pixels wide.
    fn cut(&self, text: &str, most: usize) -> String {
        if self.width(text) <= most {
            return text.to_owned();
        }
        let mut kept = text.to_owned();
        while kept.pop().is_some() && self.width(&format!("{kept}…")) > most {}
        kept + "…"
    }

    /// The words of a text in lines that are at most `most` pixels wide, if no word is wider.
    fn wrapped(&self, text: &str, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let longer = lines.last().map(|line| format!("{line} {word}"));
            match (lines.last_mut(), longer) {
                (Some(line), Some(longer)) if self.width(&longer) <= most => *line = longer,
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }

    fn write(&self, area: &Area, text: &str, at: (usize, usize), vertical: VPos) -> Result<()> {
        let style = (FONT, self.size).into_text_style(area).color(&self.colour);
        let style = style.pos(Pos::new(HPos::Left, vertical));
        area.draw_text(text, &style, (at.0 as i32, at.1 as i32)).map_err(|e| anyhow!("{e}"))
    }
}

/// White paper of bytes `[H, W, 3]`.
struct Canvas {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl Canvas {
    /// The most pixels of a sheet: 3 bytes for each are held in memory.
    const MOST: usize = 400_000_000;

    fn new(width: usize, height: usize) -> Result<Self> {
        let count = width.checked_mul(height).filter(|count| *count <= Self::MOST);
        let count = count.ok_or_else(|| {
            anyhow!("a sheet of {width}×{height} pixels is too large; show fewer images")
        })?;
        Ok(Self { pixels: vec![255; 3 * count], width, height })
    }

    /// Puts a picture into the middle of a square, enlarged by the largest whole factor that fits.
    fn put(&mut self, picture: &Picture, (left, top): (usize, usize), side: usize) {
        let Picture { height, width, channels, .. } = *picture;
        let factor = (side / height.max(width).max(1)).max(1);
        let (left, top) = (
            left + side.saturating_sub(factor * width) / 2,
            top + side.saturating_sub(factor * height) / 2,
        );
        let plane = height * width;
        for y in 0..factor * height {
            let start = 3 * ((top + y) * self.width + left);
            let row = self.pixels.get_mut(start..start + 3 * factor * width).unwrap_or_default();
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let place = (y / factor) * width + x / factor;
                for (channel, byte) in pixel.iter_mut().enumerate() {
                    let channel = if channels < 3 { 0 } else { channel };
                    *byte = picture.pixels.get(channel * plane + place).copied().unwrap_or(0);
                }
            }
        }
    }

    /// Adds what `write` draws. Returns a PNG file.
    fn write(mut self, write: impl FnOnce(&Area) -> Result<()>) -> Result<Vec<u8>> {
        let size = (self.width as u32, self.height as u32);
        {
            let area = BitMapBackend::with_buffer(&mut self.pixels, size).into_drawing_area();
            write(&area)?;
            area.present().map_err(|error| anyhow!("{error}"))?;
        }
        encode(&self.pixels, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, height: usize, width: usize) -> Picture {
        let pixels = (0..channels * height * width).map(|i| (i * 37 % 256) as u8).collect();
        Picture { pixels, channels, height, width }
    }

    fn cell(pictures: Vec<Picture>) -> Cell {
        Cell { pictures, caption: vec!["a caption".to_owned()] }
    }

    /// The decoded sheet: bytes `[H, W, 3]` and its width.
    fn drawn(sheet: &Sheet) -> (Vec<u8>, usize) {
        let image = image::load_from_memory(&sheet.png().unwrap()).unwrap().to_rgb8();
        let width = image.width() as usize;
        (image.into_raw(), width)
    }

    #[test]
    fn pictures_are_enlarged_by_whole_factors_at_the_places_of_the_grid() {
        let (grey, colour) = (picture(1, 20, 20), picture(3, 32, 30));
        let cells = vec![cell(vec![grey.clone(), colour.clone()]); 5];
        let sheet = Sheet { title: String::new(), rows: Row::grid(cells, 3) };
        assert_eq!(sheet.rows.iter().map(|row| row.cells.len()).collect::<Vec<_>>(), [3, 2]);
        let (pixels, width) = drawn(&sheet);
        assert_eq!(width, 2 * MARGIN + 3 * (2 * 64 + IN_CELL) + 2 * GAP);
        let at = |x: usize, y: usize| &pixels[3 * (y * width + x)..][..3];
        // The second row, the second cell.
        let (left, top) = (MARGIN + 2 * 64 + IN_CELL + GAP, MARGIN + 64 + CAPTION.line + GAP);
        for (y, x) in (0..60).flat_map(|y| (0..60).map(move |x| (y, x))) {
            let level = grey.pixels[(y / 3) * 20 + x / 3];
            assert_eq!(at(left + 2 + x, top + 2 + y), [level; 3]);
        }
        for (y, x) in (0..64).flat_map(|y| (0..60).map(move |x| (y, x))) {
            let place = (y / 2) * 30 + x / 2;
            let expected = [0, 960, 1920].map(|plane| colour.pixels[plane + place]);
            assert_eq!(at(left + 64 + IN_CELL + 2 + x, top + y), expected);
        }
        assert_eq!(at(left - 1, top), [255; 3]);
    }

    #[test]
    fn texts_are_drawn_and_fit() {
        let rows = |label: &str| {
            vec![Row { label: label.to_owned(), cells: vec![cell(vec![picture(1, 64, 64)])] }]
        };
        let sheet = |label: &str| Sheet { title: "A title ".repeat(20), rows: rows(label) };
        let (plain, labelled) = (drawn(&sheet("")), drawn(&sheet("Sandal")));
        assert_eq!((plain.1, labelled.1), (LEAST_WIDTH, LEAST_WIDTH));
        // The title has several lines, and nothing touches the margins.
        let dark = |(pixels, width): &(Vec<u8>, usize)| -> Vec<(usize, usize)> {
            let places = pixels.chunks_exact(3).enumerate().filter(|(_, pixel)| pixel[0] < 128);
            places.map(|(place, _)| (place % width, place / width)).collect()
        };
        let found = dark(&labelled);
        assert!(
            found.iter().any(|(_, y)| (MARGIN + TITLE.line..MARGIN + 2 * TITLE.line).contains(y))
        );
        assert!(found.iter().all(|(x, _)| (MARGIN - 1..LEAST_WIDTH - MARGIN + 2).contains(x)));
        register();
        let cut = CAPTION.cut("a very long name of a class", 60);
        assert!(cut.ends_with('…') && CAPTION.width(&cut) <= 60, "{cut}");
        assert_eq!(CAPTION.cut("Bag", 60), "Bag");
    }
}
