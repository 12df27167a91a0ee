//! Line charts as PNG and SVG files.

use super::canvas::{FONT, encode, register, with_outlines};
use crate::error::usage;
use crate::files;
use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a chart is laid out. Lengths are in pixels.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Width and height.
    size: (u32, u32),
    /// Whether its title and the names of its lines are drawn. A page shows them beside the chart.
    named: bool,
    /// Height of the letters at the axes.
    letters: u32,
    /// Width of the numbers at the vertical axis.
    left: u32,
    /// Height of the numbers below the horizontal axis.
    bottom: u32,
    /// The most labels at an axis.
    labels: usize,
}

/// A picture in a file.
const FILE: Layout =
    Layout { size: (960, 600), named: true, letters: 16, left: 76, bottom: 52, labels: 11 };
/// A chart in a page on a screen.
const WIDE: Layout =
    Layout { size: (520, 290), named: false, letters: 12, left: 58, bottom: 42, labels: 9 };
/// A chart in a page on a phone.
const NARROW: Layout =
    Layout { size: (340, 240), named: false, letters: 12, left: 56, bottom: 40, labels: 6 };

/// The colours of Okabe and Ito 2008, which people with any kind of colour blindness can tell apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// The lines behind a chart.
const GRID: RGBColor = RGBColor(225, 225, 225);

/// A chart of lines.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What the horizontal axis shows, with its unit.
    pub x: String,
    /// What the vertical axis shows, with its unit.
    pub y: String,
    /// The scale of the horizontal axis.
    pub x_scale: Scale,
    /// The scale of the vertical axis.
    pub y_scale: Scale,
    /// The lines.
    pub lines: Vec<Line>,
}

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences have equal lengths.
    Linear,
    /// The same, for whole numbers, such as epochs.
    Whole,
    /// Equal factors have equal lengths. The points hold logarithms with the base 10.
    Log10,
    /// The same with the base 2, for powers of two, such as batch sizes.
    Log2,
}

/// A chart as a part of a page: text of SVG, in the colours of the page.
#[derive(Debug, Clone)]
pub struct Inline {
    /// An `svg` element. Its colours are the page's variables `--card`, `--grid`, `--ink` and `--line-0` to `--line-5`.
    pub svg: String,
    /// Where its points are.
    pub frame: Frame,
}

/// Where a chart draws its points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frame {
    /// Left, top, right and bottom of the field, in pixels of the SVG.
    pub field: [i32; 4],
    /// The values at the left and right of the field.
    pub x: [f64; 2],
    /// The values at the bottom and top of the field.
    pub y: [f64; 2],
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Lines with the same number have the same colour.
    pub colour: usize,
    /// Whether it is thin, because it stands beside a line that matters more.
    pub thin: bool,
    /// Its points, from left to right. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// The files for a picture's path: the path itself if it ends in `.png` or `.svg`, or both if it has no ending.
///
/// # Errors
/// A usage error for another ending.
pub fn files_of(flag: &str, path: &Path) -> Result<Vec<PathBuf>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("png" | "svg") => Ok(vec![path.to_owned()]),
        None if path.extension().is_none() && path.file_name().is_some() => {
            Ok(["png", "svg"].map(|extension| path.with_extension(extension)).into())
        }
        _ => Err(usage(format!(
            "{flag} {}: expected a name that ends in .png or .svg, or has no ending for both",
            path.display()
        ))),
    }
}

impl Chart {
    /// Writes the chart into a file, as its ending says.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = match path.extension().is_some_and(|extension| extension == "svg") {
            true => with_outlines(&self.svg(FILE)?.0).into_bytes(),
            false => self.png()?,
        };
        files::write_atomically(path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The chart as a part of a page, for a screen and for a phone.
    ///
    /// # Errors
    /// The chart cannot be drawn.
    pub fn inline(&self) -> Result<[Inline; 2]> {
        let draw = |layout: Layout| -> Result<Inline> {
            let (text, frame) = self.svg(layout)?;
            Ok(Inline { svg: in_colours_of_the_page(&text), frame })
        };
        Ok([draw(WIDE)?, draw(NARROW)?])
    }

    fn svg(&self, layout: Layout) -> Result<(String, Frame)> {
        let mut text = String::new();
        let frame = self
            .draw(&SVGBackend::with_string(&mut text, layout.size).into_drawing_area(), layout)?;
        Ok((text, frame))
    }

    fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = FILE.size;
        let mut pixels = vec![0; (width * height * 3) as usize];
        let backend = BitMapBackend::with_buffer(&mut pixels, FILE.size);
        self.draw(&backend.into_drawing_area(), FILE)?;
        encode(&pixels, FILE.size)
    }

    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
        layout: Layout,
    ) -> Result<Frame>
    where
        B::ErrorType: 'static,
    {
        register();
        let failed = |error: DrawingAreaErrorKind<B::ErrorType>| anyhow!("{error}");
        area.fill(&WHITE).map_err(failed)?;
        let (xs, ys) = (self.range(|point| point.0, 0.0), self.range(|point| point.1, 0.05));
        let mut builder = ChartBuilder::on(area);
        if layout.named {
            builder.caption(&self.title, (FONT, 24));
        }
        let mut chart = builder
            .margin(layout.letters)
            .x_label_area_size(layout.bottom)
            .y_label_area_size(layout.left)
            .build_cartesian_2d(xs.clone(), ys.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .label_style((FONT, layout.letters))
            .axis_desc_style((FONT, layout.letters + layout.letters / 8))
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .max_light_lines(1)
            .x_labels(labels(&xs, self.x_scale, layout.labels))
            .y_labels(labels(&ys, self.y_scale, layout.labels))
            .x_label_formatter(&|value| label(*value, self.x_scale))
            .y_label_formatter(&|value| label(*value, self.y_scale))
            .draw()
            .map_err(failed)?;
        for line in &self.lines {
            let colour = COLOURS.get(line.colour_index()).copied().unwrap_or(BLACK);
            let style = match line.thin {
                true => colour.mix(0.6).stroke_width(1),
                false => colour.stroke_width(3),
            };
            let points: Vec<(f64, f64)> = line.finite_points().collect();
            // A line of one point would not be seen.
            let dots = points.len() <= 12;
            if dots {
                let dot = |&point: &(f64, f64)| Circle::new(point, 4, colour.filled());
                chart.draw_series(points.iter().map(dot)).map_err(failed)?;
            }
            chart
                .draw_series(LineSeries::new(points, style))
                .map_err(failed)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        let (columns, rows) = chart.plotting_area().get_pixel_range();
        let frame = Frame {
            field: [columns.start, rows.start, columns.end, rows.end],
            x: [xs.start, xs.end],
            y: [ys.start, ys.end],
        };
        // The title says what the only line is.
        if self.lines.len() < 2 || !layout.named {
            area.present().map_err(failed)?;
            return Ok(frame);
        }
        chart
            .configure_series_labels()
            .position(self.free_corner(&ys))
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font((FONT, 17))
            .legend_area_size(32)
            .margin(10)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
        Ok(frame)
    }

    /// The corner at the right that the ends of the lines leave free.
    fn free_corner(&self, ys: &Range<f64>) -> SeriesLabelPosition {
        let ends = self.lines.iter().filter_map(|line| line.finite_points().last());
        let high = ends.filter(|(_, y)| *y > (ys.start + ys.end) / 2.0).count();
        match 2 * high > self.lines.len() {
            true => SeriesLabelPosition::LowerRight,
            false => SeriesLabelPosition::UpperRight,
        }
    }

    /// The range of an axis: that of all finite points, and `margin` of it at both ends.
    fn range(&self, of: impl Fn(&(f64, f64)) -> f64, margin: f64) -> Range<f64> {
        let values = || self.lines.iter().flat_map(Line::finite_points).map(|point| of(&point));
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        match low < high {
            true => low - margin * (high - low)..high + margin * (high - low),
            // One value, or none.
            false if low == high => low - 1.0..low + 1.0,
            false => 0.0..1.0,
        }
    }
}

impl Line {
    /// The place of its colour among those of the lines.
    pub fn colour_index(&self) -> usize {
        self.colour % COLOURS.len()
    }

    fn finite_points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }
}

/// The number of labels at an axis: at most `most`, and one for each whole number, or for each power of ten.
fn labels(range: &Range<f64>, scale: Scale, most: usize) -> usize {
    match scale {
        Scale::Linear => most,
        Scale::Whole | Scale::Log2 => ((range.end - range.start) as usize + 1).clamp(2, most),
        Scale::Log10 => ((range.end - range.start) as usize + 1).clamp(3, most),
    }
}

/// Text of SVG whose colours are variables of the page, and whose size is that of its place.
fn in_colours_of_the_page(svg: &str) -> String {
    let hex = |RGBColor(red, green, blue): RGBColor| format!("\"#{red:02X}{green:02X}{blue:02X}\"");
    let lines =
        COLOURS.iter().enumerate().map(|(index, colour)| (hex(*colour), format!("line-{index}")));
    let names = [(hex(WHITE), "card"), (hex(GRID), "grid"), (hex(BLACK), "ink")];
    let names = names.map(|(colour, name)| (colour, name.to_owned()));
    lines.chain(names).fold(svg.to_owned(), |text, (colour, name)| {
        text.replace(&colour, &format!("\"var(--{name})\""))
    })
}

/// The label of a value at an axis.
fn label(value: f64, scale: Scale) -> String {
    match scale {
        Scale::Linear | Scale::Whole => {
            format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').into()
        }
        Scale::Log10 if (-3.0..=4.0).contains(&value) => {
            format!("{:.3}", 10f64.powf(value)).trim_end_matches('0').trim_end_matches('.').into()
        }
        Scale::Log10 => format!("1e{value:.0}"),
        Scale::Log2 => label(value.exp2(), Scale::Linear),
    }
}
