//! The name of a network: that of its paper, and what differs from it.

use super::depth::blocks_of;
use super::kinds::{Placement, Shortcut, Stem};
use super::{Groups, Spec, join, layout_defaults, value_name};
use std::fmt;

impl fmt::Display for Spec {
    /// Such as `ResNet-18` or `SE-ResNeXt-50 32×4d (width 16)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, notes) = self.name_and_notes();
        f.write_str(&name)?;
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join(", ")) }
    }
}

impl Spec {
    /// The name, and the differences from the network of that name.
    fn name_and_notes(&self) -> (String, Vec<String>) {
        let (width, stem) = layout_defaults(&self.blocks);
        let mut notes = Vec::new();
        if !self.is_of_its_depth() {
            notes.push(format!("{} blocks {}", value_name(self.block), join(&self.blocks, ",")));
        }
        if self.width != width {
            notes.push(format!("width {}", self.width));
        }
        let letter = self.letter_of_stem_and_shortcut();
        let mut name = match self.groups {
            Some(Groups { count: 1, width }) if width.is_multiple_of(self.stage_width()) => {
                format!("Wide ResNet-{}-{}", self.depth(), width / self.stage_width())
            }
            Some(Groups { count, width }) => {
                format!("ResNeXt-{} {count}×{width}d", self.depth())
            }
            None if self.is_wide() => format!("WRN-{}-{}", self.depth(), self.widen),
            None if self.residual => {
                let letter = letter.map(|letter| format!("-{letter}")).unwrap_or_default();
                format!("ResNet-{}{letter}", self.depth())
            }
            None => format!("plain-{}", self.depth()),
        };
        // Names with groups or a factor say nothing about shortcuts and stem.
        let is_basic_name = self.groups.is_none() && !self.is_wide();
        if self.se {
            name.insert_str(0, "SE-");
        }
        match self.placement {
            Placement::Original => {}
            Placement::PreActivation if self.is_wide() => {}
            Placement::PreActivation => name.insert_str(0, "pre-activation "),
            other => notes.push(value_name(other)),
        }
        if !self.residual && !is_basic_name {
            notes.push("no shortcuts".to_owned());
        }
        if letter.is_none() || !(is_basic_name && self.residual) {
            if self.stem != stem {
                notes.push(format!("{} stem", value_name(self.stem)));
            }
            if self.shortcut != Shortcut::Projection && self.residual {
                notes.push(format!("{} shortcuts", value_name(self.shortcut)));
            }
        }
        if self.conv_bias != self.shortcut.gives_bias() {
            notes.push(if self.conv_bias { "with biases" } else { "without biases" }.to_owned());
        }
        if self.widen > 1 && !self.is_wide() {
            notes.push(format!("widened by {}", self.widen));
        }
        for (what, value, usual) in [
            ("residual scale", self.residual_scale, 1.0),
            ("dropout", self.dropout, 0.0),
            ("head dropout", self.head_dropout, 0.0),
            ("stochastic depth", self.stochastic_depth, 0.0),
        ] {
            if value != usual {
                notes.push(format!("{what} {value}"));
            }
        }
        (name, notes)
    }

    /// The letter that He et al. 2019 ("Bag of tricks") or timm give to this stem and shortcut.
    fn letter_of_stem_and_shortcut(&self) -> Option<char> {
        match (self.stem, self.shortcut) {
            (Stem::Deep, Shortcut::Projection) => Some('C'),
            (Stem::Deep, Shortcut::AvgPool) => Some('D'),
            (Stem::Tiered, Shortcut::AvgPool) => Some('T'),
            _ => None,
        }
    }

    /// Whether its blocks are those that its depth stands for.
    fn is_of_its_depth(&self) -> bool {
        let usual = blocks_of(self.depth(), None, self.widen);
        usual.is_ok_and(|usual| (usual.block, &usual.blocks) == (self.block, &self.blocks))
    }
}
