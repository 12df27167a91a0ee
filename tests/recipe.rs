//! Checks that the training steps compute what the recipe says. Each test is about one part of the recipe and uses a
//! tiny network.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows it in tests, but not in their helpers"
)]

use resnet::data::Images;
use resnet::data::augment::Augment;
use resnet::data::dataset::Dataset;
use resnet::data::order::epoch_order;
use resnet::data::preprocess::Preprocess;
use resnet::model::parameters::{Creation, Role};
use resnet::model::spec::{Choices, Init, Spec};
use resnet::model::{Mode, Network, Noise};
use resnet::train::epoch::EpochSums;
use resnet::train::recipe::OptimizerOptions;
use resnet::train::schedule::ScheduleKind;
use resnet::train::{Recipe, Trainer};
use tch::{Device, Kind, Reduction, Tensor};

/// Images that differ, or copies of one image.
fn images(count: usize, differ: bool) -> Dataset {
    let of = |image: usize| if differ { image } else { 0 };
    let images = Images {
        pixels: (0..count * 64).map(|i| ((of(i / 64) + 1) * (i % 64) * 7 % 251) as u8).collect(),
        labels: (0..count).map(|image| (of(image) % 10) as u8).collect(),
        count,
        channels: 1,
        height: 8,
        width: 8,
    };
    Dataset::new(&images, Device::Cpu)
}

fn network() -> Network {
    let choices = Choices {
        depth: Some(20),
        width: Some(4),
        channels: 1,
        classes: 10,
        size: 8,
        ..Choices::default()
    };
    let device = Device::Cpu;
    let draw = Creation::Draw { init: Init::He, zero_init_residual: false, seed: 0, device };
    Network::new(&Spec::resolve(&choices).unwrap(), draw)
}

fn preprocess(kind: Kind) -> Preprocess {
    Preprocess::new(&[0.5], &[0.5], 8, (kind, Device::Cpu))
}

/// Plain gradient descent at a constant learning rate. Only the order of the images is random.
fn plain() -> Recipe {
    tch::set_num_threads(1);
    Recipe {
        batch_size: 6,
        lr: 0.1,
        schedule_kind: ScheduleKind::Constant,
        warmup_epochs: 0.0,
        augment: Augment::NONE,
        optimizer: OptimizerOptions {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            decay_all: false,
            ..OptimizerOptions::default()
        },
        ..Recipe::default()
    }
}

fn tensors(network: &Network) -> Vec<Tensor> {
    network.parameters().iter().map(|p| p.tensor.detach().copy()).collect()
}

/// Trains one epoch with a new network. Returns the mean loss, and all tensors after the epoch.
fn epoch(recipe: &Recipe, number: u64, images: &Dataset, kind: Kind) -> (f64, Vec<Tensor>) {
    let (network, preprocess) = (network(), preprocess(kind));
    let mut trainer = Trainer::new(&network, images, &preprocess, recipe);
    let mut epoch = trainer.epoch(number, EpochSums::default());
    while !epoch.is_over() {
        trainer.step(&mut epoch).unwrap();
    }
    trainer.sync(&mut epoch).unwrap();
    (epoch.sums().mean_loss(), tensors(&network))
}

#[test]
fn a_warm_up_starts_with_a_fraction_of_the_learning_rate() {
    let images = images(6, true);
    // An epoch has one step, so the warm-up has four steps. This test computes the first one.
    let warm = Recipe { warmup_epochs: 4.0, ..plain() };
    let slow = Recipe { lr: 0.1 / 4.0, ..plain() };
    let [warm, slow, full] =
        [&warm, &slow, &plain()].map(|recipe| epoch(recipe, 1, &images, Kind::Float).1);
    assert_eq!(warm, slow);
    assert_ne!(warm, full);
}

#[test]
fn the_default_recipe_has_a_warm_up() {
    let recipe = Recipe::default();
    let schedule = recipe.schedule(100);
    assert_eq!((schedule.warmup_steps, schedule.total_steps), (50, 1000));
}

/// With a learning rate of 0 the network does not change, so its loss shows which batch it gets.
#[test]
fn each_epoch_has_a_different_order_of_images() {
    let images = images(18, true);
    // Only the first third of the epoch is used, because all images together have the same mean loss in any order.
    let recipe = Recipe { lr: 0.0, limit_batches: Some(1), ..plain() };
    let loss = |number| epoch(&recipe, number, &images, Kind::Float).0;
    let losses = [1, 2, 3].map(loss);
    assert_eq!(losses, [1, 2, 3].map(loss));
    assert!(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2]);
}

#[test]
fn each_epoch_augments_the_same_image_differently() {
    // All images are copies of one image, so their order makes no difference.
    let images = images(6, false);
    for changes in ["flip", "flip,crop", "erase:1", "cutout:4", "trivial", "rotate:20", "scale:0.3"]
    {
        let recipe = Recipe { lr: 0.0, augment: changes.parse().unwrap(), ..plain() };
        let loss = |number| epoch(&recipe, number, &images, Kind::Float).0;
        // With flips alone, two epochs can have the same loss by chance.
        let losses: Vec<f64> = (1..6).map(loss).collect();
        assert!(losses[1..].iter().any(|loss| *loss != losses[0]), "{changes}: {losses:?}");
    }
    let same = Recipe { lr: 0.0, ..plain() };
    let loss = |number| epoch(&same, number, &images, Kind::Float).0;
    assert_eq!(loss(1), loss(2));
}

#[test]
fn the_average_of_the_weights_follows_its_formula_at_each_step() {
    let images = images(18, true);
    // The average keeps the fraction min(decay, step / (step + 9)). From step 1 on this is 1/10, 2/11, and then the
    // decay.
    let recipe = Recipe { ema_decay: Some(0.2), ..plain() };
    let (network, preprocess) = (network(), preprocess(Kind::Float));
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let mut epoch = trainer.epoch(1, EpochSums::default());
    let mut expected = tensors(&network);
    for kept in [1.0 / 10.0, 2.0 / 11.0, 0.2] {
        trainer.step(&mut epoch).unwrap();
        for (average, new) in expected.iter_mut().zip(tensors(&network)) {
            *average = &*average * kept + new * (1.0 - kept);
        }
        for (expected, found) in expected.iter().zip(tensors(trainer.result())) {
            let difference = (expected - found).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "the difference is {difference} if {kept} is kept");
        }
    }
}

#[test]
fn micro_batches_of_different_sizes_are_weighted_by_their_number_of_images() {
    let images = images(5, true);
    // The micro-batches have three and two images. After the first step the momentum equals the gradient.
    let optimizer = OptimizerOptions {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
        decay_all: false,
        ..OptimizerOptions::default()
    };
    let recipe =
        Recipe { batch_size: 5, accumulate: 2, label_smoothing: 0.0, optimizer, ..plain() };
    let preprocess = preprocess(Kind::Float);
    let by_hand = network();
    let order = Tensor::from_slice(&epoch_order(recipe.seed, 1, 5));
    let learned: Vec<_> = by_hand.parameters().iter().filter(|p| p.role != Role::Buffer).collect();
    let mut loss = Tensor::zeros([], (Kind::Float, Device::Cpu));
    for (start, length) in [(0, 3), (3, 2)] {
        let part = images.batch(&order.narrow(0, start, length)).unwrap();
        let logits = by_hand.forward(&preprocess.apply(&part), Mode::Train(Noise::default()));
        loss += part.targets().loss(&logits, 0.0, Reduction::Sum) / 5.0;
    }
    let wanted: Vec<_> = learned.iter().map(|parameter| &parameter.tensor).collect();
    let gradients = Tensor::f_run_backward(&[&loss], &wanted, false, false).unwrap();

    let network = network();
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let mut epoch = trainer.epoch(1, EpochSums::default());
    trainer.step(&mut epoch).unwrap();
    trainer.sync(&mut epoch).unwrap();
    assert!((epoch.sums().mean_loss() - loss.double_value(&[])).abs() < 1e-6);
    let state = trainer.save();
    for (parameter, expected) in learned.iter().zip(gradients) {
        let (_, found) = state.iter().find(|(name, _)| *name == parameter.name).unwrap();
        let scale = expected.abs().max().double_value(&[]) + 1e-3;
        let difference = (expected - found).abs().max().double_value(&[]);
        assert!(difference < 1e-4 * scale, "{}: {difference}", parameter.name);
    }
}

#[test]
fn fp16_gradients_are_clipped_without_the_loss_scale() {
    let images = images(6, true);
    // The limit is far above the norm of the gradient, and far below the norm of the gradient times the loss scale
    // of 65,536.
    let clipped = Recipe { clip_grad_norm: Some(1000.0), ..plain() };
    let [clipped, free] =
        [&clipped, &plain()].map(|recipe| epoch(recipe, 1, &images, Kind::Half).1);
    assert_eq!(clipped, free);
    assert_ne!(free, tensors(&network()), "a step must change the network");
}

#[test]
fn a_step_whose_fp16_gradients_overflow_is_skipped() {
    let images = images(6, true);
    let optimizer = OptimizerOptions {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.1,
        decay_all: true,
        ..OptimizerOptions::default()
    };
    let recipe = Recipe { optimizer, ..plain() };
    let (network, preprocess) = (network(), preprocess(Kind::Half));
    let last = network.parameters().iter().find(|p| p.name == "fc.weight").unwrap();
    // The backward pass multiplies the gradients of the logits by these weights, so that fp16 overflows.
    tch::no_grad(|| {
        let _ = last.tensor.shallow_clone().g_mul_scalar_(10_000.0);
    });
    let mut trainer = Trainer::new(&network, &images, &preprocess, &recipe);
    let learned = |network: &Network| -> Vec<Tensor> {
        let learned = network.parameters().iter().filter(|p| p.role != Role::Buffer);
        learned.map(|p| p.tensor.detach().copy()).collect()
    };
    let before = learned(&network);
    let mut epoch = trainer.epoch(1, EpochSums::default());
    trainer.step(&mut epoch).unwrap();
    assert_eq!(learned(&network), before);
    for (name, tensor) in trainer.save().iter() {
        let value = tensor.abs().max().double_value(&[]);
        let expected = if name == "loss_scale.scale" { 32_768.0 } else { 0.0 };
        assert_eq!(value, expected, "{name}");
    }
}
