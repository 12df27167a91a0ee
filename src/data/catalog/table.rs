//! The table of data sets, one row each.
//!
//! Which files the checksums are of, and where they come from:
//! - Fashion-MNIST: the unpacked files of the clean release of 2017-08-31. These bytes, compressed again
//!   with the official headers, have the four MD5s in the README of Fashion-MNIST.
//! - MNIST: the unpacked files. The compressed files have the MD5s in torchvision.
//! - Kuzushiji-MNIST and CIFAR: the compressed files. Checksums and lengths come from TensorFlow Datasets.

use super::super::augment::Change;
use super::super::synthetic;
use super::{Checksum, DatasetInfo, File, Format, IdxFiles};

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte.gz";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte.gz";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte.gz";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte.gz";

/// All data sets; the first one is the default.
pub static DATASETS: &[DatasetInfo] = &[
    DatasetInfo {
        name: "fashion-mnist",
        title: "Fashion-MNIST",
        format: Format::Idx {
            train: IdxFiles {
                images: File {
                    name: TRAIN_IMAGES,
                    bytes: 26_421_880,
                    checksum: Checksum::Unpacked(
                        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    ),
                },
                labels: File {
                    name: TRAIN_LABELS,
                    bytes: 29_515,
                    checksum: Checksum::Unpacked(
                        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    ),
                },
            },
            test: IdxFiles {
                images: File {
                    name: TEST_IMAGES,
                    bytes: 4_422_102,
                    checksum: Checksum::Unpacked(
                        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    ),
                },
                labels: File {
                    name: TEST_LABELS,
                    bytes: 5_148,
                    checksum: Checksum::Unpacked(
                        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                    ),
                },
            },
        },
        mirrors: &[
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        classes: &[
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        mean: &[0.2860],
        std: &[0.3530],
        augment: &[Change::Flip],
        train_images: 60_000,
        test_images: 10_000,
        channels: 1,
        height: 28,
        width: 28,
    },
    DatasetInfo {
        name: "mnist",
        title: "MNIST",
        format: Format::Idx {
            train: IdxFiles {
                images: File {
                    name: TRAIN_IMAGES,
                    bytes: 9_912_422,
                    checksum: Checksum::Unpacked(
                        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    ),
                },
                labels: File {
                    name: TRAIN_LABELS,
                    bytes: 28_881,
                    checksum: Checksum::Unpacked(
                        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    ),
                },
            },
            test: IdxFiles {
                images: File {
                    name: TEST_IMAGES,
                    bytes: 1_648_877,
                    checksum: Checksum::Unpacked(
                        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    ),
                },
                labels: File {
                    name: TEST_LABELS,
                    bytes: 4_542,
                    checksum: Checksum::Unpacked(
                        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    ),
                },
            },
        },
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        mean: &[0.1307],
        std: &[0.3081],
        augment: &[],
        train_images: 60_000,
        test_images: 10_000,
        channels: 1,
        height: 28,
        width: 28,
    },
    DatasetInfo {
        name: "kmnist",
        title: "Kuzushiji-MNIST",
        format: Format::Idx {
            train: IdxFiles {
                images: File {
                    name: TRAIN_IMAGES,
                    bytes: 18_165_135,
                    checksum: Checksum::Packed(
                        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                    ),
                },
                labels: File {
                    name: TRAIN_LABELS,
                    bytes: 29_497,
                    checksum: Checksum::Packed(
                        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                    ),
                },
            },
            test: IdxFiles {
                images: File {
                    name: TEST_IMAGES,
                    bytes: 3_041_136,
                    checksum: Checksum::Packed(
                        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                    ),
                },
                labels: File {
                    name: TEST_LABELS,
                    bytes: 5_120,
                    checksum: Checksum::Packed(
                        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                    ),
                },
            },
        },
        mirrors: &[
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ],
        classes: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        mean: &[0.1918],
        std: &[0.3483],
        augment: &[],
        train_images: 60_000,
        test_images: 10_000,
        channels: 1,
        height: 28,
        width: 28,
    },
    DatasetInfo {
        name: "cifar10",
        title: "CIFAR-10",
        format: Format::Cifar {
            archive: File {
                name: "cifar-10-binary.tar.gz",
                bytes: 170_052_171,
                checksum: Checksum::Packed(
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                ),
            },
            train: &[
                "cifar-10-batches-bin/data_batch_1.bin",
                "cifar-10-batches-bin/data_batch_2.bin",
                "cifar-10-batches-bin/data_batch_3.bin",
                "cifar-10-batches-bin/data_batch_4.bin",
                "cifar-10-batches-bin/data_batch_5.bin",
            ],
            test: &["cifar-10-batches-bin/test_batch.bin"],
            label_bytes: 1,
        },
        mirrors: CIFAR_MIRRORS,
        classes: &[
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ],
        mean: &[0.4914, 0.4822, 0.4465],
        std: &[0.2470, 0.2435, 0.2616],
        augment: &[Change::Flip, Change::Crop],
        train_images: 50_000,
        test_images: 10_000,
        channels: 3,
        height: 32,
        width: 32,
    },
    DatasetInfo {
        name: "cifar100",
        title: "CIFAR-100",
        format: Format::Cifar {
            archive: File {
                name: "cifar-100-binary.tar.gz",
                bytes: 168_513_733,
                checksum: Checksum::Packed(
                    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                ),
            },
            train: &["cifar-100-binary/train.bin"],
            test: &["cifar-100-binary/test.bin"],
            label_bytes: 2,
        },
        mirrors: CIFAR_MIRRORS,
        classes: CIFAR100_CLASSES,
        mean: &[0.5071, 0.4865, 0.4409],
        std: &[0.2673, 0.2564, 0.2762],
        augment: &[Change::Flip, Change::Crop],
        train_images: 50_000,
        test_images: 10_000,
        channels: 3,
        height: 32,
        width: 32,
    },
    DatasetInfo {
        name: "synthetic",
        title: "Synthetic set",
        format: Format::Synthetic,
        mirrors: &[],
        classes: &[
            "stripes 0",
            "stripes 1",
            "stripes 2",
            "stripes 3",
            "stripes 4",
            "stripes 5",
            "stripes 6",
            "stripes 7",
            "stripes 8",
            "stripes 9",
        ],
        mean: &[0.4855],
        std: &[0.2724],
        augment: &[],
        train_images: 8_000,
        test_images: 2_000,
        channels: 1,
        height: synthetic::SIDE,
        width: synthetic::SIDE,
    },
];

const CIFAR_MIRRORS: &[&str] =
    &["https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"];

#[rustfmt::skip]
const CIFAR100_CLASSES: &[&str] = &[
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
];
