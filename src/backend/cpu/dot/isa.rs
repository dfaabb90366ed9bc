//! The instruction sets that there are kernels for, and which of them the processor has.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::plain;
use super::tile::{Kernel, PIXEL_MAX};
use crate::lower::DType;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cpu) enum Isa {
    /// With VNNI for 8-bit integers, and with AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// No vector instructions.
    None,
}

impl Isa {
    /// All that the processor has for `dtype`, fastest first; none where there is no way to compute
    /// in it.
    pub(in crate::backend::cpu) fn supported(dtype: DType) -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            let is_complete = match dtype {
                DType::I8 => is_x86_feature_detected!("avx512vnni"),
                _ => dtype == DType::BF16 && is_x86_feature_detected!("avx512bf16"),
            };
            found.extend(is_complete.then_some(Self::Avx512));
        }
        if dtype == DType::I8 {
            found.push(Self::None);
        }
        found
    }

    /// Its kernels for `dtype`, by pixels less one.
    ///
    /// # Panics
    /// When it is none of [`Isa::supported`].
    pub(super) fn kernels(self, dtype: DType) -> [Kernel; PIXEL_MAX] {
        match (self, dtype) {
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, DType::I8) => avx512::integers(),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, DType::BF16) => avx512::halves(),
            (Self::None, DType::I8) => plain::integers(),
            _ => panic!("no {self:?} in {dtype:?}"),
        }
    }
}
