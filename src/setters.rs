//! Setters that chain, one a field: options are open to growth, so no other crate writes them out.
//!
//! Knows no options.

/// `setters!(Options { field: Type, … })` gives `Options` a setter a field, named like it.
macro_rules! setters {
    ($options:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!(
                    "The same with another [`", stringify!($field), "`](Self#structfield.",
                    stringify!($field), ")."
                )]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}
pub(crate) use setters;
