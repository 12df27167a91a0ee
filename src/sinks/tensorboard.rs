//! TensorBoard: an event file in the run's folder, with figures for each epoch and for steps, with the settings, and
//! with histograms of weights and gradients.

mod file;
mod messages;

use crate::config::Config;
use crate::report::gather::TestResults;
use crate::report::matrix;
use crate::report::mistakes::sheet;
use crate::train::epoch::EpochSums;
use crate::train::event::EpochFigures;
use crate::train::histogram::{Histogram, TensorHistograms};
use crate::train::run::Position;
use crate::train::{Event, Sink};
use anyhow::Result;
use file::{EventFile, seconds_since_1970};
use image::{ImageFormat, ImageReader};
use messages::{
    Content, HParamsData, HParamsPluginData, HistogramProto, Image, Kind, Metadata, PluginData,
    SessionEndInfo, SessionLog, SessionStartInfo, Setting, Summary, TensorProto, Value, What,
};
use prost::Message;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

/// The most points of an epoch in the curves of steps. A point is the mean over the steps since the point before.
const POINTS: usize = 100;
/// After this time, what was written is given to the system, so that TensorBoard shows it.
const FLUSH: Duration = Duration::from_secs(5);

/// Writes an event file. After the first error it writes nothing more.
#[derive(Debug)]
pub struct TensorBoard {
    /// None after an error.
    file: Option<EventFile>,
    flushed: Instant,
    /// The sums of the epoch at the last point.
    seen: EpochSums,
    /// The least steps between two points.
    steps_between: usize,
}

impl Sink for TensorBoard {
    fn take(&mut self, event: &Event) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        self.write(&mut file, event)
            .map_err(|error| error.context("TensorBoard gets no more figures of this run"))?;
        self.file = Some(file);
        Ok(())
    }
}

impl TensorBoard {
    /// A new event file in the run's folder. A run that continues after `position` gets a new file too; TensorBoard then
    /// drops the later steps of earlier files, because they are repeated.
    ///
    /// # Errors
    /// The folder is read-only, gone or full.
    pub fn open(run_dir: &Path, config: &Config, position: Position) -> Result<Self> {
        let mut file = EventFile::create(run_dir)?;
        if position != Position::START {
            let start = SessionLog { status: SessionLog::START };
            file.write(position.step + 1, What::SessionLog(start))?;
        }
        let settings =
            SessionStartInfo { hparams: settings(config), start_time_secs: seconds_since_1970() };
        let value = hparams("session_start_info", HParamsData::SessionStartInfo(settings));
        file.write(0, summary(vec![value]))?;
        file.flush()?;
        Ok(Self {
            file: Some(file),
            flushed: Instant::now(),
            seen: position.in_epoch.unwrap_or_default(),
            steps_between: 1,
        })
    }

    fn write(&mut self, file: &mut EventFile, event: &Event) -> Result<()> {
        let is_due = match event {
            Event::EpochStart { steps, .. } => {
                self.steps_between = steps.div_ceil(POINTS).max(1);
                false
            }
            Event::Step { step, lr, steps_left, sums: Some(sums), .. } => {
                if sums.steps >= self.seen.steps + self.steps_between || *steps_left == 0 {
                    let images = sums.images.saturating_sub(self.seen.images);
                    let loss = (sums.loss - self.seen.loss) / images.max(1) as f64;
                    let values = vec![scalar("step/train_loss", loss), scalar("step/lr", *lr)];
                    file.write(*step, summary(values))?;
                    self.seen = *sums;
                }
                self.flushed.elapsed() > FLUSH
            }
            Event::Histograms { step, tensors, .. } => {
                let values = tensors.iter().flat_map(histograms).collect();
                file.write(*step, summary(values))?;
                false
            }
            Event::Epoch(figures) => {
                self.seen = EpochSums::default();
                file.write(figures.step, summary(scalars(figures)?))?;
                true
            }
            Event::End(end) => {
                let status = match end.diverged {
                    false => SessionEndInfo::SUCCESS,
                    true => SessionEndInfo::FAILURE,
                };
                let end = SessionEndInfo { status, end_time_secs: seconds_since_1970() };
                let value = hparams("session_end_info", HParamsData::SessionEndInfo(end));
                file.write(0, summary(vec![value]))?;
                true
            }
            Event::Stop { .. } => true,
            _ => false,
        };
        if is_due {
            file.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

/// Adds pictures of a run's results after its last step: the confusion matrix, and the images that the network is most
/// wrong about. They are in an event file of their own.
///
/// # Errors
/// A picture cannot be drawn, or the folder is read-only, gone or full.
pub fn add_pictures(run_dir: &Path, step: u64, results: &TestResults) -> Result<()> {
    let TestResults { outcome, wrong } = results;
    let confusion = matrix::png(&outcome.evaluation.confusion, &outcome.names)?;
    let mistakes = sheet(outcome, wrong).png()?;
    let mut file = EventFile::create(run_dir)?;
    let values = [("test/confusion", confusion), ("test/mistakes", mistakes)];
    let values = values.map(|(tag, png)| picture(tag, png)).into_iter().collect::<Result<_>>()?;
    file.write(step, summary(values))?;
    file.flush()
}

/// A picture from a PNG file.
fn picture(tag: &str, png: Vec<u8>) -> Result<Value> {
    let (width, height) =
        ImageReader::with_format(Cursor::new(&png), ImageFormat::Png).into_dimensions()?;
    let image = Image {
        height: height as i32,
        width: width as i32,
        colorspace: Image::RGB,
        encoded_image_string: png,
    };
    Ok(Value { tag: tag.to_owned(), metadata: None, content: Some(Content::Image(image)) })
}

/// The settings of a run that can change its result.
fn settings(config: &Config) -> BTreeMap<String, Setting> {
    let settings = config.by_name().into_iter().filter(|(name, _)| !name.starts_with("run."));
    let kind = |value: toml::Value| match value {
        toml::Value::Boolean(value) => Kind::Bool(value),
        toml::Value::Integer(value) => Kind::Number(value as f64),
        toml::Value::Float(value) => Kind::Number(value),
        toml::Value::String(value) => Kind::Text(value),
        other => Kind::Text(other.to_string()),
    };
    settings.map(|(name, value)| (name, Setting { kind: Some(kind(value)) })).collect()
}

/// The figures of an epoch under the keys of its JSON object, except those that only count.
fn scalars(figures: &EpochFigures) -> Result<Vec<Value>> {
    let object = serde_json::to_value(figures)?;
    let counts = ["epoch", "step", "test_images", "validation_images"];
    let numbers = object.as_object().into_iter().flatten();
    Ok(numbers
        .filter(|(key, _)| !counts.contains(&key.as_str()))
        .filter_map(|(key, value)| Some(scalar(&format!("epoch/{key}"), value.as_f64()?)))
        .collect())
}

fn histograms(tensor: &TensorHistograms) -> impl Iterator<Item = Value> {
    [("weights", &tensor.weights), ("gradients", &tensor.gradients)].into_iter().filter_map(
        |(kind, histogram)| {
            let tag = format!("{kind}/{}", tensor.name);
            let content = Content::Histo(histogram_proto(histogram.as_ref()?));
            Some(Value { tag, metadata: None, content: Some(content) })
        },
    )
}

fn histogram_proto(histogram: &Histogram) -> HistogramProto {
    let Histogram { min, max, sum, sum_squares, .. } = *histogram;
    let bucket: Vec<f64> = histogram.counts.iter().map(|&count| count as f64).collect();
    let (num, bucket_limit) = (bucket.iter().sum(), histogram.limits());
    HistogramProto { min, max, num, sum, sum_squares, bucket_limit, bucket }
}

fn summary(value: Vec<Value>) -> What {
    What::Summary(Summary { value })
}

fn scalar(tag: &str, value: f64) -> Value {
    let content = Some(Content::SimpleValue(value as f32));
    Value { tag: tag.to_owned(), metadata: None, content }
}

/// A value for TensorBoard's plugin of hyper-parameters.
fn hparams(name: &str, data: HParamsData) -> Value {
    let content = HParamsPluginData { data: Some(data) }.encode_to_vec();
    let plugin_data = PluginData { plugin_name: "hparams".to_owned(), content };
    let nothing = TensorProto { dtype: TensorProto::DT_FLOAT, float_val: vec![0.0] };
    Value {
        tag: format!("_hparams_/{name}"),
        metadata: Some(Metadata { plugin_data: Some(plugin_data) }),
        content: Some(Content::Tensor(nothing)),
    }
}
