//! Code that the rivals in Rust share: their options, torchvision's networks as data, and the protocol of
//! scripts/peers/run.

use clap::{Parser, ValueEnum};
use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::Instant;

/// Images have one channel.
pub const CHANNELS: usize = 1;
/// The classes of the last layer.
pub const CLASSES: usize = 10;
/// The channels of the stem and of the first stage.
pub const WIDTH: usize = 64;
/// The learning rate of the optimizer.
pub const LEARNING_RATE: f64 = 1e-3;

/// The work of a step.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Forward pass, loss, backward pass, update.
    Train,
    /// Forward pass without gradients.
    Inference,
}

/// The command line, which is the same as for pytorch.py.
#[derive(Parser)]
pub struct Options {
    #[arg(long, value_enum, default_value = "train")]
    pub mode: Mode,
    #[arg(long, default_value_t = 18)]
    pub depth: usize,
    #[arg(long, default_value_t = 256)]
    pub batch_size: usize,
    #[arg(long, default_value_t = 96)]
    pub size: usize,
    #[arg(long)]
    threads: Option<usize>,
}

impl Options {
    /// Reads the command line, and sets the number of threads of rayon.
    pub fn read() -> Self {
        let options = Self::parse();
        if let Some(threads) = options.threads {
            // SAFETY: no other thread has been started yet.
            unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
        }
        options
    }
}

/// A convolution without bias, padded by half its kernel, and the batch norm after it.
pub struct Conv {
    pub from: usize,
    pub to: usize,
    pub kernel: usize,
    pub stride: usize,
}

/// A residual block: its convolutions, and a projection if its input and output have different shapes.
pub struct Block {
    pub convs: Vec<Conv>,
    pub projection: Option<Conv>,
}

/// The blocks of torchvision's network of this depth, without stem and head.
pub fn blocks(depth: usize) -> Result<Vec<Block>, String> {
    let (counts, bottleneck) = match depth {
        18 => ([2, 2, 2, 2], false),
        34 => ([3, 4, 6, 3], false),
        50 => ([3, 4, 6, 3], true),
        101 => ([3, 4, 23, 3], true),
        152 => ([3, 8, 36, 3], true),
        _ => return Err(format!("torchvision has no ResNet-{depth}")),
    };
    let mut blocks = Vec::new();
    let mut from = WIDTH;
    for (stage, count) in counts.into_iter().enumerate() {
        let width = WIDTH << stage;
        let to = if bottleneck { 4 * width } else { width };
        for place in 0..count {
            let stride = if stage > 0 && place == 0 { 2 } else { 1 };
            let conv = |from, to, kernel, stride| Conv { from, to, kernel, stride };
            let convs = if bottleneck {
                vec![conv(from, width, 1, 1), conv(width, width, 3, stride), conv(width, to, 1, 1)]
            } else {
                vec![conv(from, width, 3, stride), conv(width, to, 3, 1)]
            };
            let projection = (from != to || stride != 1).then(|| conv(from, to, 1, stride));
            blocks.push(Block { convs, projection });
            from = to;
        }
    }
    Ok(blocks)
}

/// The output channels of the last block.
pub fn features(blocks: &[Block]) -> usize {
    blocks.last().and_then(|block| block.convs.last()).map_or(WIDTH, |conv| conv.to)
}

/// Takes one step to warm up and prints `ready`. Then each line on stdin is a number of steps. Takes these
/// steps and prints their times in seconds as a JSON list.
pub fn serve(mut step: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    step()?;
    println!("ready");
    for line in stdin().lock().lines() {
        let mut seconds = Vec::new();
        for _ in 0..line?.trim().parse()? {
            let start = Instant::now();
            step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        println!("{seconds:?}");
    }
    Ok(())
}
