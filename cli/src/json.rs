//! Answers in the JSON form of protobuf, with the names of the `.proto` files.

use std::io::Write;
use std::sync::LazyLock;

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(weir_proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptors were compiled with the code")
});

/// Writes a message of the given full name on one line. Fields without a value are left out unless
/// `defaults` asks for them.
pub(crate) fn write_line(
    name: &str,
    message: &impl prost::Message,
    defaults: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let descriptor = POOL
        .get_message_by_name(name)
        .with_context(|| format!("{name} is no message"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .with_context(|| format!("reading {name}"))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(!defaults);
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    message
        .serialize_with_options(&mut serializer, &options)
        .with_context(|| format!("writing {name} as JSON"))?;
    line.push(b'\n');
    // The error stays an I/O error, so that a closed pipe can be told from others.
    out.write_all(&line)?;
    Ok(())
}

/// Reads a message of the given full name from its JSON form.
pub(crate) fn read<M: prost::Message + Default>(
    name: &str,
    value: &serde_json::Value,
) -> anyhow::Result<M> {
    let descriptor = POOL
        .get_message_by_name(name)
        .with_context(|| format!("{name} is no message"))?;
    let message = DynamicMessage::deserialize(descriptor, value)
        .with_context(|| format!("reading {name} from JSON"))?;
    message
        .transcode_to()
        .with_context(|| format!("reading {name}"))
}
