//! Line charts as PNG and SVG files.

use super::canvas::{FONT, encode, register};
use crate::error::usage;
use crate::files;
use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Width and height of a picture, in pixels.
const SIZE: (u32, u32) = (960, 600);

/// The colours of Okabe and Ito 2008, which people with any kind of colour blindness can tell apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

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
            true => self.svg()?.into_bytes(),
            false => self.png()?,
        };
        files::write_atomically(path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
        Ok(text)
    }

    fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = SIZE;
        let mut pixels = vec![0; (width * height * 3) as usize];
        self.draw(&BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area())?;
        encode(&pixels, SIZE)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, plotters::coord::Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        register();
        let failed = |error: DrawingAreaErrorKind<B::ErrorType>| anyhow!("{error}");
        area.fill(&WHITE).map_err(failed)?;
        let (xs, ys) = (self.range(|point| point.0, 0.0), self.range(|point| point.1, 0.05));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 24))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(76)
            .build_cartesian_2d(xs.clone(), ys.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 18))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .max_light_lines(1)
            .x_labels(labels(&xs, self.x_scale))
            .y_labels(labels(&ys, self.y_scale))
            .x_label_formatter(&|value| label(*value, self.x_scale))
            .y_label_formatter(&|value| label(*value, self.y_scale))
            .draw()
            .map_err(failed)?;
        for line in &self.lines {
            let colour = COLOURS.get(line.colour % COLOURS.len()).copied().unwrap_or(BLACK);
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
        // The title says what the only line is.
        if self.lines.len() < 2 {
            return area.present().map_err(failed);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font((FONT, 17))
            .legend_area_size(32)
            .margin(10)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)
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
    fn finite_points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }
}

/// The most labels at an axis: at most one for each whole number, and for each power of ten.
fn labels(range: &Range<f64>, scale: Scale) -> usize {
    const MOST: usize = 11;
    match scale {
        Scale::Linear => MOST,
        Scale::Whole | Scale::Log2 => ((range.end - range.start) as usize + 1).clamp(2, MOST),
        Scale::Log10 => ((range.end - range.start) as usize + 1).clamp(3, MOST),
    }
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
