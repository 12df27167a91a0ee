//! The few libtorch calls that tch does not bind, behind a safe face.
