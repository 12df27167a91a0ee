//! Turns the text of an SVG into the outlines of its letters, so that the picture needs no font where it is shown.

use ab_glyph::{Font, FontRef, GlyphId, OutlineCurve, Point};
use std::fmt::Write;

/// An SVG of plotters whose text is drawn as paths in this font. Text that is not as plotters writes it stays text.
pub fn outlined(svg: &str, font: &[u8]) -> String {
    let Ok(font) = FontRef::try_from_slice(font) else { return svg.to_owned() };
    let mut rest = svg;
    let mut drawn = String::with_capacity(svg.len());
    while let Some(start) = rest.find("<text ") {
        let (before, from) = rest.split_at(start);
        drawn.push_str(before);
        let Some(end) = from.find("</text>").map(|end| end + "</text>".len()) else {
            break;
        };
        let (element, after) = from.split_at(end);
        drawn.push_str(&path(element, &font).unwrap_or_else(|| element.to_owned()));
        rest = after;
    }
    drawn + rest
}

/// A `path` element for a `text` element; `None` if an attribute is missing.
fn path(element: &str, font: &FontRef) -> Option<String> {
    let (tag, content) = element.strip_suffix("</text>")?.split_once('>')?;
    let attribute = |name: &str| {
        let (_, from) = tag.split_once(&format!(" {name}=\""))?;
        from.split_once('"').map(|(value, _)| value)
    };
    let number = |name: &str| attribute(name)?.parse::<f32>().ok();
    let per_em = font.units_per_em()?;
    let scale = number("font-size")? / per_em;
    let text = unescaped(content.trim());
    let glyphs: Vec<GlyphId> = text.chars().map(|letter| font.glyph_id(letter)).collect();
    let width: f32 = glyphs.iter().map(|glyph| font.h_advance_unscaled(*glyph)).sum();
    let start = match attribute("text-anchor") {
        Some("middle") => width / 2.0,
        Some("end") => width,
        _ => 0.0,
    };
    let x = number("x")? - start * scale;
    let y = number("y")? + shift(attribute("dy").unwrap_or("0"), font, scale)?;
    let turn = attribute("transform").map(|turn| format!("{turn} ")).unwrap_or_default();
    let (fill, opacity) = (attribute("fill")?, attribute("opacity").unwrap_or("1"));
    Some(format!(
        r#"<path fill="{fill}" opacity="{opacity}" aria-label="{}" transform="{turn}translate({x:.2} {y:.2}) scale({scale:.6} -{scale:.6})" d="{}"/>"#,
        content.trim().replace('"', "&quot;"),
        outlines(&glyphs, font)
    ))
}

/// The shift of the base line down, in pixels; `dy` is in em or in ex, the height of the letter x.
fn shift(dy: &str, font: &FontRef, scale: f32) -> Option<f32> {
    let em = font.units_per_em()?;
    let (number, unit) = match (dy.strip_suffix("em"), dy.strip_suffix("ex")) {
        (Some(number), _) => (number, em),
        (_, Some(number)) => (number, font.outline(font.glyph_id('x'))?.bounds.max.y),
        (None, None) => (dy, 0.0),
    };
    Some(number.parse::<f32>().ok()? * unit * scale)
}

/// The outlines of glyphs side by side, as the data of a path in units of the font.
fn outlines(glyphs: &[GlyphId], font: &FontRef) -> String {
    let (mut data, mut left) = (String::new(), 0.0);
    for glyph in glyphs {
        let mut at: Option<Point> = None;
        for curve in font.outline(*glyph).into_iter().flat_map(|outline| outline.curves) {
            let (from, command, points, to) = match curve {
                OutlineCurve::Line(from, to) => (from, 'L', vec![to], to),
                OutlineCurve::Quad(from, control, to) => (from, 'Q', vec![control, to], to),
                OutlineCurve::Cubic(from, first, second, to) => {
                    (from, 'C', vec![first, second, to], to)
                }
            };
            if at != Some(from) {
                let _ = write!(data, "M{} {}", left + from.x, from.y);
            }
            data.push(command);
            let points: Vec<String> =
                points.iter().map(|point| format!("{} {}", left + point.x, point.y)).collect();
            data.push_str(&points.join(" "));
            at = Some(to);
        }
        left += font.h_advance_unscaled(*glyph);
    }
    data
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_paths_and_everything_else_stays() {
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        let text = |content: &str| {
            format!(
                "<text x=\"50\" y=\"20\" dy=\"0.5ex\" text-anchor=\"end\" font-family=\"sans-serif\" font-size=\"10\" opacity=\"1\" fill=\"#000000\">\n{content}\n</text>"
            )
        };
        let svg = format!("<svg><rect x=\"1\"/>{}<rect x=\"2\"/></svg>", text("I &lt; 5"));
        let drawn = outlined(&svg, font);
        assert!(!drawn.contains("<text") && drawn.contains("aria-label=\"I &lt; 5\""), "{drawn}");
        assert!(drawn.starts_with("<svg><rect x=\"1\"/><path fill=\"#000000\" opacity=\"1\""));
        assert!(drawn.ends_with("\"/><rect x=\"2\"/></svg>"));
        // The glyphs of I, < and 5 have one contour each, and a space has none.
        assert_eq!(drawn.matches('M').count(), 3, "{drawn}");
        // A wider text that ends at the same place starts further to the left.
        let start = |content: &str| {
            let drawn = outlined(&text(content), font);
            let (_, from) = drawn.split_once("translate(").unwrap();
            from.split_once(' ').unwrap().0.parse::<f32>().unwrap()
        };
        assert!(start("II") < start("I") && start("I") < 50.0);
        for odd in ["", "<text ", "<text x=\"1\">a</text>", "<text x=\"1\">"] {
            assert_eq!(outlined(odd, font), odd);
        }
    }
}
