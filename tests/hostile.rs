//! Randomly changed files and command lines. Every reader returns a value or an error. No reader panics, and no
//! reader allocates the memory that a header claims before it has checked the header. `PROPTEST_CASES` sets the
//! number of inputs for each reader (see CONTRIBUTING).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic makes the test fail")]

mod common;

use clap::Parser;
use common::flags::{Flag, Value as Takes, subcommands};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Union;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use resnet::checkpoint::{Cadence, Checkpoint, State, Store, Versions};
use resnet::cli::{Cli, Command, Options};
use resnet::config::{Config, resolve_network};
use resnet::data::catalog::{Checksum, File, Member, Part};
use resnet::data::{cifar, idx, unpack};
use resnet::error::exit_code;
use resnet::model::Network;
use resnet::model::parameters::Creation;
use resnet::train::optimizer::Optimizer;
use resnet::train::state::NamedTensors;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;
use tch::Device;

/// Runs `test` with values that `strategy` draws.
fn check<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("PROPTEST_CASES").map_or(2000, |cases| cases.parse().unwrap());
    let config = Cases { cases, failure_persistence: None, ..Cases::default() };
    if let Err(failure) = TestRunner::new(config).run(&strategy, test) {
        panic!("{failure}");
    }
}

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Put(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Flip(index, bit) => {
                let at = at(index);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Put(index, new) => {
                let at = at(index);
                let end = (at + new.len()).min(bytes.len());
                bytes.splice(at..end, new.iter().copied());
            }
            Self::Insert(index, new) => {
                let at = at(index);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(index, count) => {
                let at = at(index);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Cut(index) => bytes.truncate(at(index)),
        }
    }
}

/// Pieces of text that are likely to find faults.
const TOKENS: [&str; 24] = [
    "-1",
    "0",
    "1",
    "1e999",
    "nan",
    "9223372036854775807",
    "9223372036854775808",
    "1099511627776",
    "4294967296",
    "0.5",
    "\"\"",
    "[]",
    "{}",
    "null",
    "true",
    "\n",
    "=",
    "\"",
    "é",
    "[train]",
    "depth = 1202",
    "[2000,2000,2000,2000]",
    "\"bottleneck\"",
    ",",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 1..9),
        select(&TOKENS[..]).prop_map(|token| token.as_bytes().to_vec()),
        select(vec![0_u64, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX]).prop_flat_map(
            |n| select(vec![n.to_le_bytes().to_vec(), (n as u32).to_be_bytes().to_vec()])
        ),
    ]
}

/// The original bytes after a few changes or, one time in ten, random bytes.
fn changed(original: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), piece()).prop_map(|(at, new)| Change::Put(at, new)),
        (any::<Index>(), piece()).prop_map(|(at, new)| Change::Insert(at, new)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        any::<Index>().prop_map(Change::Cut),
    ];
    let few_changes = vec(change, 0..5).prop_map(move |changes| {
        let mut bytes = original.clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    });
    prop_oneof![9 => few_changes, 1 => vec(any::<u8>(), 0..64)]
}

fn changed_text(original: String) -> impl Strategy<Value = String> {
    let bytes = changed(original.into_bytes());
    bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The files of a checkpoint of a tiny network: the weights and the state.
static CHECKPOINT: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let flags = "resnet train --blocks 1,1,1 --width 1 --size 8";
    let Command::Train(args) = Cli::parse_from(flags.split(' ')).command else { unreachable!() };
    let config = Config::load(None, &args.options).unwrap();
    let network = Network::new(&config.spec, Creation::Empty { device: Device::Cpu });
    let (mean, std) = config.normalisation();
    let card = resnet::checkpoint::ModelCard {
        format: resnet::checkpoint::FORMAT,
        spec: config.spec.clone(),
        dataset: "fashion-mnist".to_owned(),
        classes: config.dataset.classes.iter().map(ToString::to_string).collect(),
        mean,
        std,
        batch_size: 256,
        precision: resnet::precision::Precision::Fp32,
        held_out: None,
    };
    let state = State {
        format: resnet::checkpoint::FORMAT,
        step: 10,
        epoch: 0,
        in_epoch: Some(resnet::train::epoch::EpochSums { steps: 10, ..Default::default() }),
        seed: 0,
        best: None,
        versions: Versions::current(),
        seconds: 1.5,
        config: config.to_table(),
        derived: config.derived(),
    };
    let folder = tempfile::tempdir().unwrap();
    let sgd = Optimizer::new(&network, config.recipe.optimizer, None);
    let mut optimizer = NamedTensors::default();
    sgd.save(&mut optimizer);
    Store::open(folder.path(), 1).unwrap().save(&network, &optimizer, &card, &state).unwrap();
    let last = folder.path().join("checkpoints/last");
    let text = fs::read_to_string(last.join("state.json")).unwrap();
    (fs::read(last.join("model.safetensors")).unwrap(), text)
});

#[test]
fn idx_files() {
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
    images.extend([7; 24]);
    check(changed(images), |bytes| {
        if let Ok(read) = idx::images(bytes) {
            prop_assert_eq!(read.count * read.height * read.width, read.pixels.len());
        }
        Ok(())
    });
    check(changed(vec![0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]), |bytes| {
        let length = bytes.len();
        prop_assert!(idx::labels(bytes).map_or(true, |labels| labels.len() == length - 8));
        Ok(())
    });
}

#[test]
fn cifar_files() {
    check((changed(vec![3; 4 * 13]), 1..3_usize), |(bytes, label_bytes)| {
        if let Ok(read) = cifar::records(&[bytes], label_bytes, 12) {
            prop_assert_eq!(read.labels.len(), read.count);
            prop_assert_eq!(read.pixels.len(), read.count * 12);
        }
        Ok(())
    });
}

#[test]
fn compressed_files() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut archive = tar::Builder::new(Vec::new());
    for name in ["folder/a", "../b", "folder/c"] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(40);
        header.set_cksum();
        archive.append(&header, &[5_u8; 40][..]).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    let file = |name| File { name, bytes: 0, checksum: Checksum::Packed("") };
    let (gz, tar_gz) = (file("a.gz"), file("a.tar.gz"));
    let member = Member { path: "folder/a", bytes: 40 };
    let read = |file: &File, bytes: &[u8]| {
        let part = Part { file, members: vec![member] };
        if let Ok(members) = unpack::members(&part, bytes) {
            prop_assert_eq!(members.len(), 1);
            prop_assert_eq!(members[0].len(), 40);
        }
        Ok(())
    };
    check(changed(gzip(&[9; 40])), |bytes| read(&gz, &bytes));
    check(changed(gzip(&archive)), |bytes| read(&tar_gz, &bytes));
    // The archive is changed before compression: otherwise gzip's checksum would find the change before tar reads it.
    check(changed(archive), move |bytes| read(&tar_gz, &gzip(&bytes)));
}

#[test]
fn weights() {
    let (model, _) = &*CHECKPOINT;
    let path = Path::new("model.safetensors");
    let network = |bytes: Vec<u8>| Checkpoint::parse(&bytes, path)?.network(Device::Cpu);
    assert!(network(model.clone()).is_ok());
    // Most of the file is weights, where a change does no harm. So the header is changed alone, too.
    let header = 8 + u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let weights = model[header..].to_vec();
    check(changed(model.clone()), |bytes| {
        let _ = network(bytes);
        Ok(())
    });
    check(changed(model[..header].to_vec()), |mut bytes| {
        bytes.extend_from_slice(&weights);
        let _ = network(bytes);
        Ok(())
    });
    // The same with the correct length of the header.
    check(changed_text(String::from_utf8_lossy(&model[8..header]).into_owned()), |text| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&weights);
        let _ = network(bytes);
        Ok(())
    });
}

#[test]
fn states() {
    let (_, text) = &*CHECKPOINT;
    assert!(State::parse(text).is_ok());
    check(changed_text(text.clone()), |text| {
        if let Ok(state) = State::parse(&text) {
            let _ = state.check_position(Path::new("5"), 10);
            if let Err(error) = Config::resume(&state.config, &state.derived, &Options::default()) {
                prop_assert_eq!(exit_code(&error), 2, "{}", error);
            }
        }
        Ok(())
    });
}

#[test]
fn configurations() {
    let files = ["quick", "chapter"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/{name}.toml"));
        fs::read_to_string(path).unwrap()
    });
    for text in files {
        check(changed_text(text), |text| {
            if let Err(error) = Config::parse(&text, Path::new("my.toml"), &Options::default()) {
                prop_assert_eq!(exit_code(&error), 2, "{}", error);
                prop_assert!(!error.to_string().is_empty());
            }
            Ok(())
        });
    }
}

/// Values of all kinds that are likely to find faults on a command line.
const VALUES: [&str; 28] = [
    "18",
    "1202",
    "0",
    "-1",
    "1",
    "2",
    "96",
    "4096",
    "0.05",
    "1e30",
    "1e999",
    "inf",
    "nan",
    "-0",
    "9223372036854775807",
    "18446744073709551616",
    "1.5",
    "true",
    "cuda:0",
    "cpu",
    "10m",
    "3steps",
    "2,2,2,2",
    "1,1,1",
    "2000,2000,2000",
    "nowhere/at-all",
    "/dev/null",
    "",
];

/// One of the flag's names and a value. Most values are of the kind that the flag takes.
fn words_of(flag: Flag) -> impl Strategy<Value = Vec<String>> {
    let value = match flag.value {
        // One time in ten there is a value, although the flag takes none.
        Takes::Nothing => prop_oneof![
            9 => Just(None),
            1 => select(&VALUES[..]).prop_map(|value| Some(value.to_owned())),
        ]
        .boxed(),
        Takes::Word(words) => prop_oneof![
            4 => select(words).prop_map(Some),
            1 => select(&VALUES[..]).prop_map(|value| Some(value.to_owned())),
            1 => "[ -~]{0,6}".prop_map(Some),
        ]
        .boxed(),
        Takes::Number | Takes::Path | Takes::Text => prop_oneof![
            4 => select(&VALUES[..]).prop_map(|value| Some(value.to_owned())),
            1 => "[ -~]{0,6}".prop_map(Some),
        ]
        .boxed(),
    };
    (select(flag.names), value).prop_map(|(name, value)| [name].into_iter().chain(value).collect())
}

#[test]
fn command_lines() {
    let line = select(subcommands()).prop_flat_map(|subcommand| {
        let flags = subcommand.flags.into_iter().map(|flag| words_of(flag).boxed());
        let flag = flags.collect::<Vec<_>>();
        let word = prop_oneof![
            4 => Union::new(flag),
            1 => "[ -~é]{0,8}".prop_map(|word| vec![word]),
        ];
        let start: Vec<String> = subcommand.words.split(' ').map(str::to_owned).collect();
        vec(word, 0..6).prop_map(move |words| [start.clone(), words.concat()].concat())
    });
    check(line, |words| {
        let line = ["resnet".to_owned()].into_iter().chain(words);
        let Ok(cli) = Cli::try_parse_from(line) else { return Ok(()) };
        let result = match cli.command {
            Command::Train(args) => Config::load(None, &args.options).map(|_| ()),
            Command::Shapes(args) => resolve_network(&args.network, None).map(|_| ()),
            Command::Bench(args) => resolve_network(&args.network, None).map(|_| ()),
            _ => Ok(()),
        };
        if let Err(error) = result {
            prop_assert_eq!(exit_code(&error), 2, "{}", error);
        }
        Ok(())
    });
    check("\\PC{0,12}|[0-9]{0,25}[a-z]{0,6}|[0-9a-z ]{0,12}", |text| {
        if let Ok(cadence) = text.parse::<Cadence>() {
            prop_assert_eq!(cadence.to_string().parse(), Ok(cadence));
        }
        Ok(())
    });
}
