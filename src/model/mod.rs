//! Residual networks.
//!
//! [`spec`] has the validated choices of the user, and which blocks a depth stands for. [`plan`] derives the network from a spec as
//! plain data. [`network`] and [`block`] turn a plan into [`module`]s of [`layers`], whose [`parameters`] have
//! torchvision's names. [`grow`] deepens a trained network. [`folded`] computes logits faster, for inference only. [`shape`] measures the output and the
//! cost of each layer.

pub mod block;
pub mod folded;
pub mod grow;
pub mod layers;
pub mod module;
pub mod network;
pub mod parameters;
pub mod plan;
pub mod shape;
pub mod spec;
pub mod weights;

pub use folded::Folded;
pub use module::{Mode, Noise};
pub use network::Network;
pub use plan::Plan;
pub use spec::Spec;
