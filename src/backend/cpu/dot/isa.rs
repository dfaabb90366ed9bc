//! The instruction sets that there are kernels for, and which of them the processor has.

#[cfg(target_arch = "x86_64")]
use super::avx;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::plain;
use super::tile::Kernels;
use crate::lower::DType;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cpu) enum Isa {
    /// With VNNI for 8-bit integers, and with AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// No vector instructions.
    None,
}

impl Isa {
    /// All that the processor has for `dtype`, fastest first; none where there is no way to compute
    /// in it.
    pub(in crate::backend::cpu) fn supported(dtype: DType) -> Vec<Self> {
        let mut found = Vec::new();
        let is_integers = dtype == DType::I8;
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && match is_integers {
                    true => is_x86_feature_detected!("avx512vnni"),
                    false => dtype == DType::BF16 && is_x86_feature_detected!("avx512bf16"),
                };
            found.extend(has_avx512.then_some(Self::Avx512));
            let has_avx2 =
                is_integers && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let has_vnni = has_avx2 && is_x86_feature_detected!("avxvnni");
            found.extend(has_vnni.then_some(Self::AvxVnni));
            found.extend(has_avx2.then_some(Self::Avx2));
        }
        found.extend(is_integers.then_some(Self::None));
        found
    }

    /// As its maker calls what it has for `dtype`.
    pub(in crate::backend::cpu) fn name(self, dtype: DType) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if dtype == DType::BF16 => "AVX-512 BF16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            Self::None => "none",
        }
    }

    /// Its kernels for `dtype`.
    ///
    /// # Panics
    /// When it is none of [`Isa::supported`].
    pub(super) fn kernels(self, dtype: DType) -> Kernels {
        assert!(Self::supported(dtype).contains(&self), "{self:?} in {dtype:?}");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if dtype == DType::BF16 => avx512::halves(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::integers(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx::vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx::widened(),
            Self::None => plain::integers(),
        }
    }
}
