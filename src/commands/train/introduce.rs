//! The lines that are printed when a run begins.

use super::load::RunImages;
use super::task::{Resumed, Task};
use crate::config::Config;
use crate::device;
use crate::model::Network;
use crate::model::spec::value_name;
use crate::train::recipe::OptimizerKind;
use crate::ui::{Ui, counted, grouped, quoted, rounded, short};
use tch::Device;
use toml::Value;

/// Prints the network, the data and the recipe of a run.
pub fn introduce(task: &Task, network: &Network, images: &RunImages, device: Device, ui: &Ui) {
    let Task { config, folder, resumed } = task;
    let run_dir = folder.path();
    let size = config.spec.size;
    let network = [
        config.spec.to_string(),
        format!("{} parameters", grouped(network.parameter_count())),
        value_name(config.precision) + if config.precision_is_auto() { " (auto)" } else { "" },
        format!("on {}", device::describe(device)),
    ];
    ui.say_list(&network);
    let held_out = match config.validation {
        0 => String::new(),
        count => format!(", {} held out", grouped(count)),
    };
    ui.say(format!("{} {}:", config.dataset.title, images.origin));
    ui.say(format!(
        "{} training images{held_out}, {} test images, {}×{size}×{size}",
        grouped(images.train.len()),
        grouped(images.test.len()),
        config.spec.channels,
    ));
    ui.say_list(&recipe_parts(config));
    say_unusual(config, ui);
    if config.tensorboard {
        ui.say(format!("TensorBoard: tensorboard --logdir {}", quoted(run_dir)));
    }
    let Some(Resumed { state, changes, .. }) = resumed else {
        ui.say(format!("in {}", run_dir.display()));
        return;
    };
    ui.say(format!("in {}, after step {} (epoch {})", run_dir.display(), state.step, state.epoch));
    for (name, values) in changes {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        if let ([.., key], [old, new]) = (&name.split('.').collect::<Vec<_>>()[..], values) {
            ui.warn(format!("--{key} changes from {old} to {new} from here on"));
        }
    }
}

/// Prints every setting that is not the default, as the flag that gives it.
fn say_unusual(config: &Config, ui: &Ui) {
    let unusual = config.unusual().unwrap_or_default();
    let flag = |(name, value): &(String, Value)| {
        let key = name.rsplit('.').next().unwrap_or_default();
        format!("--{key} {}", text(value))
    };
    let mut flags: Vec<String> = unusual.iter().map(flag).collect();
    if let Some(first) = flags.first_mut() {
        first.insert_str(0, "not defaults: ");
        ui.say_list(&flags);
    }
}

/// The value of a setting as it is typed after its flag.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => short(text),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// How the network is trained, in parts of a line.
fn recipe_parts(config: &Config) -> Vec<String> {
    let recipe = &config.recipe;
    let optimizer = &recipe.optimizer;
    let momentum = match (optimizer.kind, optimizer.nesterov) {
        (OptimizerKind::Sgd, false) => "momentum",
        (OptimizerKind::Sgd, true) => "Nesterov momentum",
        (OptimizerKind::AdamW, _) => "AdamW, momentum",
        (OptimizerKind::Lars, false) => "LARS, momentum",
        (OptimizerKind::Lars, true) => "LARS, Nesterov momentum",
    };
    let changing = |from: f64, to: Option<f64>| match to {
        None => from.to_string(),
        Some(to) => format!("{from} to {to}"),
    };
    let mut parts = vec![
        counted(recipe.epochs, "epoch"),
        format!("batch {}", recipe.batch_size),
        format!("lr {} ({})", recipe.lr, value_name(recipe.schedule_kind)),
    ];
    match (recipe.warmup_steps, recipe.warmup_epochs) {
        (Some(steps), _) => parts.push(format!("warm-up {}", counted(steps, "step"))),
        (None, 0.0) => {}
        (None, 1.0) => parts.push("warm-up 1 epoch".to_owned()),
        (None, epochs) => parts.push(format!("warm-up {} epochs", rounded(epochs))),
    }
    parts.extend([
        format!("{momentum} {}", changing(optimizer.momentum, optimizer.momentum_end)),
        format!("weight decay {}", changing(optimizer.weight_decay, optimizer.weight_decay_end)),
        format!("label smoothing {}", recipe.label_smoothing),
        format!("augmentation {}", recipe.augment),
    ]);
    parts.extend(recipe.clip_grad_norm.map(|norm| format!("gradients clipped to {norm}")));
    parts.extend(recipe.rates.as_ref().map(|rates| format!("rates {rates}")));
    parts.extend(recipe.sizes.as_ref().map(|sizes| format!("sizes {sizes}")));
    parts.extend(recipe.swa_epochs.map(|last| format!("average of the last {last} epochs")));
    parts.extend(recipe.ema_decay.map(|decay| format!("average {decay}")));
    parts.extend(recipe.patience.map(|epochs| format!("patience {}", counted(epochs, "epoch"))));
    parts.push(format!("seed {}", recipe.seed));
    parts
}
