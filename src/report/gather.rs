//! What a report tells about a run, gathered from the run's folder and its network.

use super::mistakes::{WrongImage, wrong_images};
use super::outcome::Outcome;
use crate::cli::Options;
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::preprocess::Preprocess;
use crate::model::Network;
use crate::model::shape::{TopLevelShape, measure};
use crate::run::compare::RunFigures;
use crate::run::folder::CONFIG_FILE;
use crate::run::overview::{Overview, overview};
use crate::train::evaluate::Evaluation;
use anyhow::Result;
use std::path::Path;

/// A run in a report.
#[derive(Debug)]
pub struct RunReport {
    /// Its state and its network in words.
    pub overview: Overview,
    /// Its settings and its epochs.
    pub figures: RunFigures,
    /// The layers of its network for one image; empty if its settings cannot be read.
    pub layers: Vec<TopLevelShape>,
    /// What the network of its last checkpoint says of the test images, or why this is not known.
    pub test: Result<TestResults, String>,
}

/// What a network says of the test images.
#[derive(Debug)]
pub struct TestResults {
    /// The evaluation.
    pub outcome: Outcome,
    /// The images that it is most wrong about.
    pub wrong: Vec<WrongImage>,
}

impl RunReport {
    /// The run in this folder, as far as its files can be read.
    pub fn new(folder: &Path, test: Result<TestResults, String>) -> Self {
        let (overview, events) = overview(folder);
        let config = Config::load(Some(&folder.join(CONFIG_FILE)), &Options::default());
        Self {
            overview,
            figures: RunFigures::with_events(folder, events)
                .unwrap_or_else(|_| RunFigures::unknown(folder)),
            layers: config.map(|config| measure(&config.spec, 1)).unwrap_or_default(),
            test,
        }
    }
}

impl TestResults {
    /// The results of a network from its evaluation on the first images of a data set. `names` are the classes.
    ///
    /// # Errors
    /// The evaluation is not of these images, or an operation of libtorch failed.
    pub fn new(
        evaluation: &Evaluation,
        network: &Network,
        images: &Dataset,
        preprocess: &Preprocess,
        names: &[String],
    ) -> Result<Self> {
        let outcome = Outcome::new(evaluation, images, names)?;
        let wrong = wrong_images(&outcome, network, images, preprocess)?;
        Ok(Self { outcome, wrong })
    }
}
