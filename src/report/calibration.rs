//! How well a network's probabilities are calibrated, as a chart (Guo et al. 2017, figure 1).

use super::chart::{Chart, Line, Scale};
use super::outcome::Outcome;

/// The fraction of fewer images says little.
const FEWEST_IMAGES: usize = 10;

/// How often the predicted class is the right one, against its probability.
pub fn calibration(outcome: &Outcome) -> Chart {
    let bins = outcome.calibration();
    let points = bins.iter().filter(|bin| bin.images >= FEWEST_IMAGES);
    let line =
        |name: &str, colour, thin, points| Line { name: name.to_owned(), colour, thin, points };
    Chart {
        title: "Right predictions by their probability".to_owned(),
        x: "probability of the predicted class in %".to_owned(),
        y: "right predictions in %".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        lines: vec![
            line("perfect", 1, true, vec![(0.0, 0.0), (100.0, 100.0)]),
            line(
                "this network",
                0,
                false,
                points.map(|bin| (100.0 * bin.probability, 100.0 * bin.right)).collect(),
            ),
        ],
    }
}
