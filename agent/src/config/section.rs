//! How a section of the configuration is declared, once, for every use of it.

use super::value::Value;

/// Sees every section and setting in the order of declaration.
pub trait Visitor {
    /// Called before the settings of the section at `path` (dotted; empty for the whole).
    fn section(&mut self, path: &str, doc: &'static str);
    /// Called for the setting at `path`.
    fn setting(&mut self, path: &str, doc: &'static str, value: &mut dyn Value);
}

/// A group of settings.
pub trait Section {
    /// Shows all that is inside to `visitor`; `path` is the dotted key of this section.
    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor);
}

/// The key of `key` inside the section at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Declares the struct of a section: for each member the documentation, the YAML key, the field,
/// its type and, for a setting, its default. The documentation is the one users read.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $name:ident {
            settings {
                $(
                    $(#[doc = $setting_doc:literal])+
                    $setting_key:literal $setting:ident: $setting_type:ty = $default:expr,
                )*
            }
            $(sections {
                $(
                    $(#[doc = $child_doc:literal])+
                    $child_key:literal $child:ident: $child_type:ty,
                )+
            })?
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $setting_doc])+ pub $setting: $setting_type,)*
            $($($(#[doc = $child_doc])+ pub $child: $child_type,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($setting: $default,)*
                    $($($child: <$child_type>::default(),)+)?
                }
            }
        }

        impl $crate::config::section::Section for $name {
            fn visit(&mut self, path: &str, visitor: &mut dyn $crate::config::section::Visitor) {
                use $crate::config::section::join;
                $(
                    visitor.setting(
                        &join(path, $setting_key),
                        concat!($($setting_doc, "\n"),+),
                        &mut self.$setting,
                    );
                )*
                $($(
                    let child = join(path, $child_key);
                    visitor.section(&child, concat!($($child_doc, "\n"),+));
                    self.$child.visit(&child, visitor);
                )+)?
            }
        }
    };
}

pub(super) use section;
