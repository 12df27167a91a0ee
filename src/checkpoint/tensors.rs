//! Writes and reads named tensors in safetensors files, as 32-bit floats in row-major order.

use crate::ui::short;
use anyhow::{Context, Result, anyhow, bail};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
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
    // With no tensors and empty metadata, safetensors 0.8 writes a header that is not valid JSON.
    let metadata = (!metadata.is_empty()).then_some(metadata);
    safetensors::serialize(views, metadata).map_err(|error| anyhow!("safetensors: {error:?}"))
}

fn data(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    let mut bytes = vec![0u8; flat.numel() * size_of::<f32>()];
    // safetensors files are little-endian, and so are all machines that libtorch runs on.
    flat.f_view_dtype(Kind::Uint8)?.f_copy_data_u8(&mut bytes, flat.numel() * size_of::<f32>())?;
    Ok(bytes)
}

/// The largest header, in bytes. The deepest network needs about a tenth of it.
const LARGEST_HEADER: u64 = 100_000_000;

/// The header of a safetensors file. It is checked before the rest of the file is read.
#[derive(Debug)]
pub struct Header {
    metadata: Metadata,
    /// The bytes up to the first tensor.
    bytes: Vec<u8>,
}

impl Header {
    /// Reads the header of a file of `length` bytes, and checks that the file has the length that the header says.
    ///
    /// # Errors
    /// The file cannot be read, or its bytes are wrong.
    pub fn read(file: &mut impl Read, length: u64) -> Result<Self> {
        let broken = |why: String| anyhow!("it is no whole safetensors file ({why})");
        let mut bytes = Vec::new();
        file.take(8).read_to_end(&mut bytes)?;
        let size = bytes.as_slice().try_into().map(u64::from_le_bytes);
        let size = size.map_err(|_| broken("it has no header".to_owned()))?;
        if size > LARGEST_HEADER.min(length.saturating_sub(8)) {
            return Err(broken("its header is longer than the file".to_owned()));
        }
        file.take(size).read_to_end(&mut bytes)?;
        let text = bytes.get(8..).unwrap_or_default();
        let metadata: Metadata =
            serde_json::from_slice(text).map_err(|error| broken(format!("header: {error}")))?;
        match (metadata.data_len() as u64).checked_add(8 + size) {
            Some(whole) if whole == length => Ok(Self { metadata, bytes }),
            _ => Err(broken(format!(
                "it has {length} bytes, but its header describes another length"
            ))),
        }
    }

    /// Reads the rest of the file, and returns all its bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_rest(self, file: &mut impl Read) -> Result<Vec<u8>> {
        let mut bytes = self.bytes;
        file.take(self.metadata.data_len() as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> Option<&HashMap<String, String>> {
        self.metadata.metadata().as_ref()
    }

    /// The number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.metadata.offset_keys().len()
    }

    /// Checks that the file holds exactly the tensors of `expected`, by name and shape.
    ///
    /// # Errors
    /// A tensor is missing, unexpected, or has another shape or dtype. The message names the first one.
    pub fn check<'n>(&self, expected: impl Iterator<Item = (&'n str, Vec<i64>)>) -> Result<()> {
        let expected: BTreeMap<&str, Vec<i64>> = expected.collect();
        let missing: Vec<&str> =
            expected.keys().copied().filter(|name| self.metadata.info(name).is_none()).collect();
        if let Some(first) = missing.first() {
            bail!("it lacks {} tensors of this network, such as {first}", missing.len());
        }
        for name in self.metadata.offset_keys() {
            let Some(shape) = expected.get(name.as_str()) else {
                bail!("it holds {}, which this network does not have", short(&name));
            };
            let Some(tensor) = self.metadata.info(&name) else { continue };
            let found: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
            if found != *shape {
                bail!("its {name} has the shape {found:?}; this network's has {shape:?}");
            }
            if tensor.dtype != Dtype::F32 {
                bail!("its {name} is of type {:?}; expected F32", tensor.dtype);
            }
        }
        Ok(())
    }
}

/// A parsed safetensors file.
#[derive(Debug)]
pub struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> TensorFile<'a> {
    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// The bytes are wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| anyhow!("it is no whole safetensors file ({error})"))?;
        Ok(Self { tensors })
    }

    /// The tensor with this name, on the CPU. `shape` is its shape in the header.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.tensors.tensor(name).map_err(|error| anyhow!("its {name}: {error}"))?;
        Ok(Tensor::f_from_data_size(tensor.data(), shape, Kind::Float)?)
    }

    /// Copies the tensor `name` into `target`, which must have the same shape.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn copy_into(&self, name: &str, target: &Tensor) -> Result<()> {
        let values = self.tensor(name, &target.size())?;
        tch::no_grad(|| target.shallow_clone().f_copy_(&values))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(mut bytes: &[u8]) -> Result<Header> {
        let length = bytes.len() as u64;
        Header::read(&mut bytes, length)
    }

    #[test]
    fn tensors_come_back_in_row_major_order_whatever_their_layout() {
        let plain = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([1, 2, 3, 4]);
        let channels_last = plain.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let metadata = HashMap::from([("key".to_owned(), "value".to_owned())]);
        let bytes = to_bytes([("w", &channels_last)], metadata.clone()).unwrap();
        let header = header(&bytes).unwrap();
        assert_eq!(header.metadata(), Some(&metadata));
        header.check([("w", vec![1, 2, 3, 4])].into_iter()).unwrap();
        let file = TensorFile::parse(&bytes).unwrap();
        let target = Tensor::zeros([1, 2, 3, 4], (Kind::Float, Device::Cpu));
        file.copy_into("w", &target).unwrap();
        assert_eq!(target, plain);
    }

    #[test]
    fn a_file_without_tensors_is_a_whole_one() {
        // For example, plain SGD has no momentum tensors to save.
        let bytes = to_bytes([], HashMap::new()).unwrap();
        header(&bytes).unwrap().check(std::iter::empty()).unwrap();
        TensorFile::parse(&bytes).unwrap();
    }

    #[test]
    fn names_and_shapes_must_be_exactly_the_networks() {
        let tensor = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let bytes = to_bytes([("a", &tensor), ("b", &tensor)], HashMap::new()).unwrap();
        let header_of_two = header(&bytes).unwrap();
        let check = |expected: &[(&'static str, Vec<i64>)]| {
            header_of_two.check(expected.iter().cloned()).map_err(|error| error.to_string())
        };
        assert!(check(&[("a", vec![2]), ("b", vec![2])]).is_ok());
        assert!(check(&[("a", vec![2])]).unwrap_err().contains("holds b"));
        let surplus = check(&[("a", vec![2]), ("b", vec![2]), ("c", vec![1])]);
        assert!(surplus.unwrap_err().contains("such as c"));
        assert!(check(&[("a", vec![2]), ("b", vec![3])]).unwrap_err().contains("[3]"));
        assert!(header(&bytes[..bytes.len() - 1]).is_err());
        assert!(header(b"PK\x03\x04").is_err());
    }
}
