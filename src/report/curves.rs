//! The curves of runs: accuracy, loss, learning rate and speed by epoch.

use super::chart::{Chart, Line, Scale};
use crate::run::compare::Group;
use crate::train::event::EpochFigures;

/// A chart, and the name of its files.
#[derive(Debug, Clone)]
pub struct NamedChart {
    /// The name, without an ending.
    pub name: &'static str,
    /// The chart.
    pub chart: Chart,
}

/// Something that an epoch tells about one set of images; `None` if the epoch does not tell it.
type Of = fn(&EpochFigures) -> Option<f64>;

/// A curve: the images that it is about, its colour if there is one group of runs, and whether it is thin.
type Curve = (&'static str, usize, bool, Of);

const LOSSES: [Curve; 3] = [
    ("training", 1, true, |epoch| Some(epoch.train_loss)),
    ("validation", 2, false, |epoch| epoch.validation_loss),
    ("test", 0, false, |epoch| epoch.test_loss),
];

const ACCURACIES: [Curve; 3] = [
    ("training", 1, true, |epoch| Some(100.0 * epoch.train_accuracy)),
    ("validation", 2, false, |epoch| epoch.validation_accuracy.map(|part| 100.0 * part)),
    ("test", 0, false, |epoch| epoch.test_accuracy.map(|part| 100.0 * part)),
];

const RATES: [Curve; 1] = [("learning rate", 0, false, |epoch| Some(epoch.lr))];

const SPEEDS: [Curve; 1] = [("images per second", 0, false, |epoch| Some(epoch.images_per_second))];

/// The curves of groups of runs, each the mean over the runs of a group.
pub fn charts(groups: &[Group]) -> [NamedChart; 4] {
    let chart = |name, title: &str, y: &str, curves: &[Curve]| NamedChart {
        name,
        chart: Chart {
            title: title.to_owned(),
            x: "epoch".to_owned(),
            y: y.to_owned(),
            x_scale: Scale::Whole,
            y_scale: Scale::Linear,
            lines: lines(groups, curves),
        },
    };
    [
        chart("accuracy", "Accuracy by epoch", "accuracy in %", &ACCURACIES),
        chart("loss", "Loss by epoch", "mean cross-entropy in nats", &LOSSES),
        chart("learning-rate", "Learning rate by epoch", "learning rate", &RATES),
        chart("speed", "Speed of training by epoch", "images per second", &SPEEDS),
    ]
}

fn lines(groups: &[Group], curves: &[Curve]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let name = group.name(None);
        for &(images, colour, thin, of) in curves {
            let points = group.by_epoch(of);
            if points.is_empty() {
                continue;
            }
            lines.push(Line {
                name: match (name.is_empty(), curves.len()) {
                    (true, _) => images.to_owned(),
                    // The title says what the curves are.
                    (false, 1) => name.clone(),
                    (false, _) => format!("{name}: {images}"),
                },
                // One group has a colour for each set of images; several have a colour for each group.
                colour: if groups.len() == 1 { colour } else { index },
                thin,
                points: points.into_iter().map(|(epoch, mean)| (epoch as f64, mean)).collect(),
            });
        }
    }
    lines
}
