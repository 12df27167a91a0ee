//! Which blocks a depth stands for.

use super::kinds::Block;
use super::{join, value_name};
use crate::error::usage;
use anyhow::Result;

/// A row of [`VARIANTS`].
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Number of layers with weights, as in the network's name.
    pub depth: usize,
    /// The kind of every block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: &'static [usize],
}

/// Depths that follow no formula, or for which several formulas hold. The four stages are for ImageNet (He et al. 2016,
/// table 1; 200 from He et al. 2016b). 164 is the network of He et al. 2016b for CIFAR.
pub const VARIANTS: [Variant; 7] = [
    Variant { depth: 18, block: Block::Basic, blocks: &[2, 2, 2, 2] },
    Variant { depth: 34, block: Block::Basic, blocks: &[3, 4, 6, 3] },
    Variant { depth: 50, block: Block::Bottleneck, blocks: &[3, 4, 6, 3] },
    Variant { depth: 101, block: Block::Bottleneck, blocks: &[3, 4, 23, 3] },
    Variant { depth: 152, block: Block::Bottleneck, blocks: &[3, 8, 36, 3] },
    Variant { depth: 200, block: Block::Bottleneck, blocks: &[3, 24, 36, 3] },
    Variant { depth: 164, block: Block::Bottleneck, blocks: &[18, 18, 18] },
];

/// Networks with three stages of n blocks, for CIFAR. Their depth is a multiple of n plus some other layers.
struct Family {
    block: Block,
    /// Layers with weights for each n.
    layers: usize,
    /// The other layers that the depth counts.
    others: usize,
    /// Whether its blocks are wide, and have pre-activation.
    wide: bool,
}

/// The families, in the order in which they are tried.
const FAMILIES: [Family; 3] = [
    // 20, 32, 44, 56, 110, 1202 (He et al. 2016, section 4.2).
    Family { block: Block::Basic, layers: 6, others: 2, wide: false },
    // 164, 1001 (He et al. 2016b, table 4).
    Family { block: Block::Bottleneck, layers: 9, others: 2, wide: false },
    // 16, 28, 40 (Zagoruyko and Komodakis 2016, table 1). This depth counts the three shortcuts with a convolution, and
    // does not count the linear layer.
    Family { block: Block::Basic, layers: 6, others: 4, wide: true },
];

/// The blocks that a depth stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The kind of every block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: Vec<usize>,
    /// Whether it is a depth of the wide networks with pre-activation.
    pub wide: bool,
}

/// The blocks of the network of this depth. If the user chose the kind of block, or widens the network, this decides
/// between the families.
///
/// # Errors
/// A usage error that says which depths exist.
pub fn blocks_of(depth: usize, block: Option<Block>, widen: usize) -> Result<Blocks> {
    let fits = |kind: Block| block.is_none_or(|block| block == kind);
    let row = VARIANTS.iter().find(|variant| variant.depth == depth);
    if let Some(Variant { block, blocks, .. }) = row.filter(|row| fits(row.block)) {
        return Ok(Blocks { block: *block, blocks: blocks.to_vec(), wide: false });
    }
    // Depths for ImageNet, such as 50, are never depths for CIFAR too.
    if let (Some(row), Some(block)) = (row.filter(|row| row.blocks.len() == 4), block) {
        return Err(usage(format!(
            "--block {}: ResNet-{depth} has {} blocks; give --blocks to make a network of your own, such as --blocks {} --block {}",
            value_name(block),
            value_name(row.block),
            join(row.blocks, ","),
            value_name(block),
        )));
    }
    let of_family = |family: &Family| {
        let rest = depth.checked_sub(family.others)?;
        let exists = rest > 0
            && rest.is_multiple_of(family.layers)
            && fits(family.block)
            && (widen > 1 || !family.wide);
        let blocks = vec![rest / family.layers; 3];
        exists.then_some(Blocks { block: family.block, blocks, wide: family.wide })
    };
    FAMILIES.iter().find_map(of_family).ok_or_else(|| no_such_depth(depth, block))
}

fn no_such_depth(depth: usize, block: Option<Block>) -> anyhow::Error {
    let of_block = block.map(|block| format!(" of {} blocks", value_name(block)));
    usage(format!(
        "--depth {depth}: no such ResNet{}; expected 18, 34, 50, 101, 152 or 200 (for ImageNet), 6n+2 with basic blocks or 9n+2 with bottleneck blocks, such as 20, 56, 110 or 164, 1001 (for CIFAR), 6n+4 with --widen, such as --depth 28 --widen 10 (Wide ResNet), or --blocks for a network of your own",
        of_block.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_row_or_a_member_of_a_family() {
        use Block::{Basic, Bottleneck};
        for (depth, block, widen, expected, blocks, wide) in [
            (50, None, 1, Bottleneck, vec![3, 4, 6, 3], false),
            (34, None, 2, Basic, vec![3, 4, 6, 3], false),
            (20, None, 1, Basic, vec![3; 3], false),
            (26, None, 4, Basic, vec![4; 3], false),
            (1202, None, 1, Basic, vec![200; 3], false),
            (20, Some(Bottleneck), 1, Bottleneck, vec![2; 3], false),
            (164, None, 1, Bottleneck, vec![18; 3], false),
            (164, Some(Basic), 1, Basic, vec![27; 3], false),
            (1001, None, 1, Bottleneck, vec![111; 3], false),
            (29, None, 1, Bottleneck, vec![3; 3], false),
            (28, None, 10, Basic, vec![4; 3], true),
            (40, Some(Basic), 4, Basic, vec![6; 3], true),
        ] {
            let found = blocks_of(depth, block, widen).unwrap();
            assert_eq!(found, Blocks { block: expected, blocks, wide }, "depth {depth}");
        }
        for (depth, block, widen) in [
            (0, None, 1),
            (2, None, 1),
            (4, None, 4),
            (19, None, 1),
            (28, None, 1),
            (28, Some(Bottleneck), 10),
            (1001, Some(Basic), 1),
            (usize::MAX, None, 2),
        ] {
            let text = blocks_of(depth, block, widen).unwrap_err().to_string();
            assert!(text.starts_with(&format!("--depth {depth}: ")), "{text}");
        }
        let text = blocks_of(50, Some(Basic), 1).unwrap_err().to_string();
        assert!(text.starts_with("--block basic: ResNet-50 has bottleneck blocks"), "{text}");
    }
}
