//! Grad-CAM (Selvaraju et al. 2017): where in an image a network sees what speaks for a class.

use crate::data::pictures::Picture;
use crate::model::Network;
use crate::model::module::Mode;
use anyhow::{Context, Result};
use tch::{Kind, Tensor};

/// How much each place of the images speaks for a class: `[N, size, size]`, from 0 to 1 in each image.
///
/// `inputs` are normalised images `[N, C, size, size]`, and `classes`, 64-bit integers `[N]`, has a class for each. The
/// maps are made of the last block's output, weighted by the gradient of the class's logit (equations 1 and 2), so they
/// are as coarse as this output.
///
/// # Errors
/// An operation of libtorch failed.
pub fn grad_cam(network: &Network, inputs: &Tensor, classes: &Tensor) -> Result<Tensor> {
    let (head, body) = network.segments().split_last().context("the network has no layers")?;
    let inputs = network.layout().apply(inputs);
    let features = tch::no_grad(|| {
        let output = |xs, segment| network.forward_segment(segment, &xs, Mode::Evaluate);
        body.iter().fold(inputs.shallow_clone(), output)
    });
    let features = features.detach().set_requires_grad(true);
    let logits = network.forward_segment(head, &features, Mode::Evaluate);
    let chosen = logits.f_gather(1, &classes.unsqueeze(1), false)?.sum(Kind::Float);
    let gradients = Tensor::f_run_backward(&[chosen], &[&features], false, false)?;
    let gradient = gradients.first().context("no gradient")?;
    tch::no_grad(|| {
        let weights = gradient.mean_dim([2, 3].as_slice(), true, Kind::Float);
        let maps = (weights * features.to_kind(Kind::Float)).sum_dim_intlist(
            [1].as_slice(),
            true,
            Kind::Float,
        );
        let maps = maps.relu();
        let size = inputs.size();
        let side = [size.get(2).copied().unwrap_or(1), size.get(3).copied().unwrap_or(1)];
        let maps = maps.f_upsample_bilinear2d(side, false, None, None)?.squeeze_dim(1);
        // A map of zeros stays zero.
        let largest = maps.amax([1, 2].as_slice(), true).clamp_min(f64::from(f32::MIN_POSITIVE));
        Ok(maps / largest)
    })
}

/// The share of the heat in an overlay.
const HEAT: f32 = 0.55;

/// A picture of `side` × `side` pixels, bytes `[H, W, 3]`: an image in grey, and over it how much each place counts.
/// `map` has numbers from 0 to 1, `[S, S]`.
pub fn overlay(picture: &Picture, map: &[f32], side: usize) -> Vec<u8> {
    let map_side = map.len().isqrt().max(1);
    let plane = picture.height * picture.width;
    let mut bytes = Vec::with_capacity(side * side * 3);
    for (row, column) in (0..side * side).map(|place| (place / side, place % side)) {
        let from = |own: usize, of: usize| own * of / side;
        let place = from(row, picture.height) * picture.width + from(column, picture.width);
        let channels =
            (0..picture.channels).filter_map(|channel| picture.pixels.get(channel * plane + place));
        let brightness =
            channels.map(|byte| f32::from(*byte)).sum::<f32>() / picture.channels.max(1) as f32;
        let heat = map
            .get(from(row, map_side) * map_side + from(column, map_side))
            .copied()
            .unwrap_or(0.0);
        let share = HEAT * heat;
        bytes
            .extend(colour(heat).map(|colour| (brightness * (1.0 - share) + colour * share) as u8));
    }
    bytes
}

/// A colour for a number from 0 to 1, from violet over red to yellow. Its brightness rises with the number, so that it
/// can be read without telling colours apart.
fn colour(heat: f32) -> [f32; 3] {
    /// Colours at equal distances.
    const COLOURS: [[f32; 3]; 5] = [
        [13.0, 8.0, 135.0],
        [126.0, 3.0, 168.0],
        [204.0, 71.0, 120.0],
        [248.0, 149.0, 64.0],
        [240.0, 249.0, 33.0],
    ];
    let place = heat.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let index = (place as usize).min(COLOURS.len() - 2);
    let share = place - index as f32;
    let [low, high] = [index, index + 1].map(|i| COLOURS.get(i).copied().unwrap_or_default());
    std::array::from_fn(|c| {
        let of = |colour: [f32; 3]| colour.get(c).copied().unwrap_or_default();
        of(low) * (1.0 - share) + of(high) * share
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Spec;
    use crate::model::parameters::Creation;
    use crate::model::spec::Choices;
    use tch::Device;

    /// With global average pooling and one linear layer, the gradient of a logit is the layer's weight divided by the
    /// number of places (Selvaraju et al. 2017, section 3.1).
    #[test]
    fn the_map_is_the_weighted_sum_of_the_last_features() {
        tch::manual_seed(1);
        let choices = Choices {
            blocks: Some(vec![1, 1, 1]),
            width: Some(4),
            size: 32,
            channels: 1,
            classes: 3,
            ..Choices::default()
        };
        let spec = Spec::resolve(&choices).unwrap();
        let network = Network::new(&spec, Creation::Empty { device: Device::Cpu });
        tch::no_grad(|| {
            for parameter in network.parameters() {
                let _ = parameter.tensor.shallow_clone().uniform_(0.1, 1.0);
            }
        });
        let inputs = Tensor::randn([2, 1, 32, 32], (Kind::Float, Device::Cpu));
        let classes = [2i64, 0];
        let maps = grad_cam(&network, &inputs, &Tensor::from_slice(&classes)).unwrap();
        assert_eq!(maps.size(), [2, 32, 32]);
        let (head, body) = network.segments().split_last().unwrap();
        let features = body.iter().fold(network.layout().apply(&inputs), |xs, segment| {
            network.forward_segment(segment, &xs, Mode::Evaluate)
        });
        assert_eq!(head.learned().len(), 2);
        let weight = network.parameters().iter().find(|p| p.name == "fc.weight").unwrap();
        for (image, class) in classes.into_iter().enumerate() {
            let weights = weight.tensor.get(class).view([-1, 1, 1]);
            let sum = (features.get(image as i64) * weights).sum_dim_intlist(
                [0].as_slice(),
                false,
                Kind::Float,
            );
            let map =
                sum.relu().view([1, 1, 8, 8]).upsample_bilinear2d([32, 32], false, None, None);
            let expected = map.view([32, 32]) / map.max();
            let error = (maps.get(image as i64) - expected).abs().max().double_value(&[]);
            assert!(error < 1e-5, "{error}");
        }
    }

    #[test]
    fn brightness_rises_with_heat() {
        let brightness = |heat: f32| {
            let [red, green, blue] = colour(heat);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let steps: Vec<f32> = (0..=20).map(|step| brightness(step as f32 / 20.0)).collect();
        assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
        let picture = Picture { pixels: vec![0, 255, 255, 0], channels: 1, height: 2, width: 2 };
        assert_eq!(overlay(&picture, &[0.0], 2), [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0]);
    }
}
