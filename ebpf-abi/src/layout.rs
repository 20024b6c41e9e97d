//! The one place that promises userspace aya a type may be copied byte by byte, and the layout
//! assertion used beside each type.

/// Asserts size and field offsets at compile time and marks the types as plain bytes.
macro_rules! layout {
    ($type:ty, size = $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
        #[cfg(feature = "aya")]
        // SAFETY: `bytemuck::Pod` holds for the type (checked on the next line): every bit pattern
        // is valid and there is no hidden padding.
        unsafe impl aya::Pod for $type {}
        const _: fn() = || {
            fn plain<T: bytemuck::Pod>() {}
            plain::<$type>();
        };
    };
}

/// Implements `bytemuck`'s traits for a generic layout, for which they cannot be derived.
///
/// The caller states the sum of the field sizes for both families; equality with the size of the
/// type proves that no padding hides in it.
macro_rules! plain_generic {
    ($name:ident, fields4 = $sum4:expr, fields6 = $sum6:expr) => {
        const _: () = {
            assert!(core::mem::size_of::<$name<crate::Addr4>>() == $sum4);
            assert!(core::mem::size_of::<$name<crate::Addr6>>() == $sum6);
        };
        // SAFETY: all fields are plain, so the all-zero value is valid.
        unsafe impl<A: crate::Address> bytemuck::Zeroable for $name<A> {}
        // SAFETY: all fields are plain and the assertion above shows there is no padding for either
        // implementation of the sealed trait `Address`.
        unsafe impl<A: crate::Address> bytemuck::Pod for $name<A> {}
    };
}

pub(crate) use {layout, plain_generic};
