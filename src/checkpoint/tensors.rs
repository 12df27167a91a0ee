//! Named tensors to and from safetensors files, 32-bit floats in row-major order.

use anyhow::{Context, Result, anyhow, bail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// The bytes of a safetensors file.
pub fn to_bytes<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let mut buffers = Vec::new();
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        buffers.push((name, shape, data(tensor).with_context(|| name.to_owned())?));
    }
    let views = buffers
        .iter()
        .map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data)
                .map_err(|error| anyhow!("{name}: {error:?}"))?;
            Ok((*name, view))
        })
        .collect::<Result<Vec<_>>>()?;
    // With no tensors and an empty metadata, safetensors 0.8 writes a header that is no JSON.
    let metadata = (!metadata.is_empty()).then_some(metadata);
    safetensors::serialize(views, metadata).map_err(|error| anyhow!("safetensors: {error:?}"))
}

fn data(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    let mut bytes = vec![0u8; flat.numel() * size_of::<f32>()];
    // safetensors is little-endian, and so is every machine that libtorch runs on.
    flat.f_view_dtype(Kind::Uint8)?.f_copy_data_u8(&mut bytes, flat.numel() * size_of::<f32>())?;
    Ok(bytes)
}

/// A parsed safetensors file.
#[derive(Debug)]
pub struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> TensorFile<'a> {
    /// Parses the header; every tensor lies within the bytes.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| anyhow!("it is no whole safetensors file ({error})"))?;
        Ok(Self { tensors })
    }

    /// The text that the file carries beside its tensors.
    pub fn metadata(bytes: &[u8]) -> Result<HashMap<String, String>> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| anyhow!("it is no whole safetensors file ({error})"))?;
        Ok(metadata.metadata().clone().unwrap_or_default())
    }

    /// Checks that the file holds exactly the tensors of `expected`, by name and shape.
    ///
    /// # Errors
    /// The first names that are missing, surplus or of another shape.
    pub fn check<'n>(&self, expected: impl Iterator<Item = (&'n str, Vec<i64>)>) -> Result<()> {
        let expected: BTreeMap<&str, Vec<i64>> = expected.collect();
        let missing: Vec<&str> =
            expected.keys().copied().filter(|name| self.tensors.tensor(name).is_err()).collect();
        if let Some(first) = missing.first() {
            bail!("it lacks {} tensors of this network, such as {first}", missing.len());
        }
        for (name, tensor) in self.tensors.iter() {
            let Some(shape) = expected.get(name) else {
                bail!("it holds {name}, which this network has not");
            };
            let found: Vec<i64> = tensor.shape().iter().map(|&n| n as i64).collect();
            if found != *shape {
                bail!("its {name} has the shape {found:?}; this network's has {shape:?}");
            }
            if tensor.dtype() != Dtype::F32 {
                bail!("its {name} is of type {:?}; expected F32", tensor.dtype());
            }
        }
        Ok(())
    }

    /// Copies the tensor `name` into `target`, which has its shape.
    pub fn copy_into(&self, name: &str, target: &Tensor) -> Result<()> {
        let tensor = self.tensors.tensor(name).map_err(|error| anyhow!("its {name}: {error}"))?;
        let values = Tensor::f_from_data_size(tensor.data(), &target.size(), Kind::Float)?;
        tch::no_grad(|| target.shallow_clone().f_copy_(&values))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_in_row_major_order_whatever_their_layout() {
        let plain = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([1, 2, 3, 4]);
        let channels_last = plain.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let metadata = HashMap::from([("key".to_owned(), "value".to_owned())]);
        let bytes = to_bytes([("w", &channels_last)], metadata.clone()).unwrap();
        assert_eq!(TensorFile::metadata(&bytes).unwrap(), metadata);
        let file = TensorFile::parse(&bytes).unwrap();
        file.check([("w", vec![1, 2, 3, 4])].into_iter()).unwrap();
        let target = Tensor::zeros([1, 2, 3, 4], (Kind::Float, Device::Cpu));
        file.copy_into("w", &target).unwrap();
        assert_eq!(target, plain);
    }

    #[test]
    fn a_file_without_tensors_is_a_whole_one() {
        // Such as the momentum of plain SGD.
        let bytes = to_bytes([], HashMap::new()).unwrap();
        TensorFile::parse(&bytes).unwrap().check(std::iter::empty()).unwrap();
    }

    #[test]
    fn names_and_shapes_must_be_exactly_the_networks() {
        let tensor = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let bytes = to_bytes([("a", &tensor), ("b", &tensor)], HashMap::new()).unwrap();
        let file = TensorFile::parse(&bytes).unwrap();
        let check = |expected: &[(&'static str, Vec<i64>)]| {
            file.check(expected.iter().cloned()).map_err(|error| error.to_string())
        };
        assert!(check(&[("a", vec![2]), ("b", vec![2])]).is_ok());
        assert!(check(&[("a", vec![2])]).unwrap_err().contains("holds b"));
        let surplus = check(&[("a", vec![2]), ("b", vec![2]), ("c", vec![1])]);
        assert!(surplus.unwrap_err().contains("such as c"));
        assert!(check(&[("a", vec![2]), ("b", vec![3])]).unwrap_err().contains("[3]"));
        assert!(TensorFile::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(TensorFile::parse(b"PK\x03\x04").is_err());
    }
}
