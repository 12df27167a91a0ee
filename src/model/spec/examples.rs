//! Small networks for tests: at least one with each value of each setting.

use super::{Block, Choices, Placement, Shortcut, Spec, Stem};
use clap::ValueEnum;

/// Small networks that together have every value of every setting.
pub fn examples() -> Vec<Spec> {
    let size = |choices: Choices| Choices { channels: 3, classes: 7, size: 33, ..choices };
    let basic =
        || size(Choices { blocks: Some(vec![1, 2, 1]), width: Some(8), ..Choices::default() });
    let bottleneck =
        || Choices { blocks: Some(vec![1, 2, 1, 1]), block: Some(Block::Bottleneck), ..basic() };
    let mut all = vec![
        basic(),
        bottleneck(),
        Choices { width: Some(4), ..basic() },
        Choices { residual: Some(false), ..basic() },
        Choices { residual: Some(false), ..bottleneck() },
        Choices { residual_scale: Some(0.5), ..basic() },
        Choices { widen: Some(2), ..basic() },
        Choices { groups: Some(4), ..bottleneck() },
        Choices { group_width: Some(16), ..bottleneck() },
        Choices { se: Some(true), width: Some(16), ..basic() },
        Choices { se: Some(true), ..bottleneck() },
        Choices { dropout: Some(0.3), ..basic() },
        Choices { head_dropout: Some(0.3), ..basic() },
        Choices { stochastic_depth: Some(0.5), ..basic() },
        Choices { conv_bias: Some(true), ..basic() },
        Choices { conv_bias: Some(false), shortcut: Some(Shortcut::PlainConv), ..basic() },
        Choices {
            placement: Some(Placement::PreActivation),
            groups: Some(2),
            se: Some(true),
            dropout: Some(0.3),
            stochastic_depth: Some(0.5),
            residual_scale: Some(0.5),
            stem: Some(Stem::Deep),
            shortcut: Some(Shortcut::AvgPool),
            width: Some(16),
            ..bottleneck()
        },
    ];
    for &placement in Placement::value_variants() {
        for choices in [basic(), bottleneck()] {
            let placed = Choices { placement: Some(placement), ..choices };
            all.push(Choices { residual: Some(false), ..placed.clone() });
            all.push(placed);
        }
        for &shortcut in Shortcut::value_variants() {
            let placement = Some(placement);
            all.push(Choices { placement, shortcut: Some(shortcut), ..basic() });
        }
        for &stem in Stem::value_variants() {
            let (placement, width) = (Some(placement), Some(16));
            all.push(Choices { placement, width, stem: Some(stem), ..basic() });
        }
    }
    all.iter().map(|choices| Spec::resolve(choices).unwrap()).collect()
}
