//! Residual networks out of a few numbers.
//!
//! [`spec`] is the table and the validated description of a network; [`block`] and [`network`]
//! turn it into modules whose [`parameters`] carry torchvision's names; [`layers`] holds the
//! leaves, with every default of PyTorch set explicitly; [`folded`] computes logits alone, faster; [`shape`] measures what comes out of each
//! layer.

pub mod block;
pub mod folded;
pub mod layers;
pub mod network;
pub mod parameters;
pub mod shape;
pub mod spec;

pub use folded::Folded;
pub use network::Network;
pub use spec::Spec;
