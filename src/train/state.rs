//! The tensors that a run needs besides the weights to resume exactly, by name.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use tch::Tensor;

/// Tensors by name, such as the momentum of each parameter. Saving collects them. Loading takes them out one by one.
#[derive(Debug, Default)]
pub struct NamedTensors(BTreeMap<String, Tensor>);

impl NamedTensors {
    /// Adds a tensor, which stays shared with its owner.
    pub fn insert(&mut self, name: impl Into<String>, tensor: &Tensor) {
        self.0.insert(name.into(), tensor.shallow_clone());
    }

    /// Copies the tensor with this name into `target`, and removes it from the collection.
    ///
    /// # Errors
    /// There is no tensor with this name, or it has another shape.
    pub fn load(&mut self, name: &str, target: &Tensor) -> Result<()> {
        let values = self.0.remove(name).with_context(|| format!("{name} is missing"))?;
        let (found, expected) = (values.size(), target.size());
        ensure!(found == expected, "{name} has the shape {found:?}, expected {expected:?}");
        tch::no_grad(|| target.shallow_clone().f_copy_(&values))?;
        Ok(())
    }

    /// Checks that every tensor was loaded.
    ///
    /// # Errors
    /// A tensor was not loaded.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => anyhow::bail!("nothing in this run is named {name}"),
        }
    }

    /// The tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tensor_is_loaded_once_and_none_is_left() {
        let mut state = NamedTensors::default();
        state.insert("a", &Tensor::from_slice(&[1f32, 2.0]));
        state.insert("b", &Tensor::from_slice(&[3f32]));
        let target = Tensor::from_slice(&[0f32, 0.0]);
        assert!(state.load("c", &target).unwrap_err().to_string().contains("c is missing"));
        state.load("a", &target).unwrap();
        assert_eq!(target, Tensor::from_slice(&[1f32, 2.0]));
        assert!(state.load("a", &target).is_err());
        let error = state.finish().unwrap_err().to_string();
        assert!(error.contains("named b"), "{error}");

        let mut state = NamedTensors::default();
        state.insert("a", &Tensor::from_slice(&[1f32]));
        let error = state.load("a", &target).unwrap_err().to_string();
        assert!(error.contains("[1]") && error.contains("[2]"), "{error}");
    }
}
