//! Which networks are possible.

use super::{Block, Groups, Placement, Spec, Stem, join};
use crate::error::{above_zero, in_range, usage};
use anyhow::Result;

// These limits are far beyond any published network. They keep a typing error from allocating terabytes.
const MAX_STAGE_BLOCKS: usize = 2000;
const MAX_WIDTH: usize = 4096;
const MAX_WIDEN: usize = 64;
const MAX_CHANNELS: usize = 1024;
const MAX_CLASSES: usize = 100_000;
const MAX_SIZE: usize = 4096;
const MAX_SCALE: f64 = 1000.0;

/// The factor by which squeeze-and-excitation reduces the channels (Hu et al. 2018, section 4).
pub const SE_REDUCTION: usize = 16;

impl Spec {
    /// Checks every field of a spec, which may have been read from a file.
    ///
    /// # Errors
    /// A usage error that names the flag, the value and the allowed values.
    pub fn check(&self) -> Result<()> {
        if !matches!(self.blocks.len(), 3 | 4) {
            return Err(usage(format!(
                "--blocks {}: {} stages; expected 4 numbers (ImageNet layout) or 3 (CIFAR layout), such as 2,2,2,2",
                join(&self.blocks, ","),
                self.blocks.len()
            )));
        }
        for &blocks in &self.blocks {
            in_range("--blocks", blocks, 1..=MAX_STAGE_BLOCKS)?;
        }
        in_range("--width", self.width, 1..=MAX_WIDTH)?;
        in_range("--widen", self.widen, 1..=MAX_WIDEN)?;
        in_range("--channels", self.channels, 1..=MAX_CHANNELS)?;
        in_range("--classes", self.classes, 2..=MAX_CLASSES)?;
        in_range("--size", self.size, 1..=MAX_SIZE)?;
        for (flag, rate) in [
            ("--dropout", self.dropout),
            ("--head-dropout", self.head_dropout),
            ("--stochastic-depth", self.stochastic_depth),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return Err(usage(format!("{flag} {rate}: expected a number from 0 to below 1")));
            }
        }
        self.check_shortcuts()?;
        self.check_groups()?;
        self.check_se()?;
        let (stem, multiple) = match self.stem {
            Stem::Imagenet | Stem::Cifar => ("", 1),
            Stem::Deep => ("deep", 2),
            Stem::Tiered => ("tiered", 8),
        };
        if !self.width.is_multiple_of(multiple) {
            return Err(usage(format!(
                "--width {}: the first convolutions of --stem {stem} have a part of these channels; expected a multiple of {multiple}",
                self.width
            )));
        }
        self.check_size()
    }

    /// Refuses `--zero-init-residual` where a block cannot start as the identity and still learn.
    ///
    /// # Errors
    /// A usage error that names both flags.
    pub fn check_zero_init(&self, zero_init_residual: bool) -> Result<()> {
        let reason = match (self.residual, self.placement) {
            _ if !zero_init_residual => return Ok(()),
            (false, _) => {
                "contradicts --residual false: without shortcuts, every block would give zeros"
            }
            (true, Placement::ReluBeforeAdd) => {
                "contradicts --placement relu-before-add: the ReLU after the zeros has no gradient, so the block would never learn"
            }
            (true, _) => return Ok(()),
        };
        Err(usage(format!("--zero-init-residual true: {reason}; remove one of the two flags")))
    }

    /// What belongs to a shortcut needs one.
    fn check_shortcuts(&self) -> Result<()> {
        above_zero("--residual-scale", self.residual_scale)?;
        in_range("--residual-scale", self.residual_scale, 0.0..=MAX_SCALE)?;
        for (flag, value, usual) in [
            ("--residual-scale", self.residual_scale, 1.0),
            ("--stochastic-depth", self.stochastic_depth, 0.0),
        ] {
            if !self.residual && value != usual {
                return Err(usage(format!(
                    "{flag} {value}: contradicts --residual false, which removes the shortcuts; remove one of the two flags"
                )));
            }
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        let Some(Groups { count, width }) = self.groups else { return Ok(()) };
        if self.block == Block::Basic {
            let flag = match count {
                1 => format!("--group-width {width}"),
                _ => format!("--groups {count}"),
            };
            return Err(usage(format!(
                "{flag}: basic blocks have no grouped convolutions; expected --block bottleneck, or a depth with bottleneck blocks, such as 50"
            )));
        }
        in_range("--groups", count, 1..=MAX_WIDTH)?;
        in_range("--group-width", width, 1..=MAX_WIDTH)?;
        if count.saturating_mul(width) > MAX_WIDTH * MAX_WIDEN {
            return Err(usage(format!(
                "--groups {count} --group-width {width}: {} channels in the first stage; expected at most {}",
                count.saturating_mul(width),
                MAX_WIDTH * MAX_WIDEN
            )));
        }
        Ok(())
    }

    fn check_se(&self) -> Result<()> {
        let outputs = self.stage_width() * self.block.expansion();
        if self.se && outputs < SE_REDUCTION {
            return Err(usage(format!(
                "--se true: reduces the channels of a block by {SE_REDUCTION}, and the blocks of the first stage have only {outputs}; expected a larger --width"
            )));
        }
        Ok(())
    }

    /// Each layer of stride 2 needs an input of more than one pixel.
    fn check_size(&self) -> Result<()> {
        let smallest = (1 << (self.halvings() - 1)) + 1;
        if self.size < smallest {
            let remedy = match self.stem {
                Stem::Imagenet | Stem::Deep | Stem::Tiered => " (or --stem cifar)",
                Stem::Cifar => "",
            };
            return Err(usage(format!(
                "--size {}: too small, a layer of stride 2 would get an image of one pixel; expected at least {smallest}{remedy}",
                self.size
            )));
        }
        Ok(())
    }
}
