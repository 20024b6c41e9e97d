//! `weir encrypt rotate-key`.

use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::Args;
use weir_proto::admin::{
    EncryptionStatusRequest, EncryptionStatusResponse, KeyRotation, RotateKeyRequest,
};

use super::{at, until};
use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::{Hue, Paint};

/// How often it is asked whether the new key is in use.
const PAUSE: Duration = Duration::from_millis(500);
/// How much later than announced the new key may come into use.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether to wait.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Return only when the new key is in use
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(
    server: &Server,
    args: &RotateArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client.rotate_key(RotateKeyRequest {}).await?.into_inner();
    let rotation = answer.rotation.clone().unwrap_or_default();
    match args.output.output {
        Form::Json => json::write_line("weir.admin.v1.RotateKeyResponse", &answer, true, out)?,
        Form::Text => write!(out, "{}", text(&rotation, SystemTime::now()))?,
    }
    if !args.wait {
        return Ok(());
    }
    out.flush()?;
    wait(server, &rotation).await?;
    if args.output.output == Form::Text {
        writeln!(out, "{}", paint.paint(Hue::Green, "The new key is in use."))?;
    }
    Ok(())
}

fn text(rotation: &KeyRotation, now: SystemTime) -> String {
    let when = until(rotation.in_use_from.as_ref(), now)
        .map_or_else(|| "at once".to_owned(), |left| format!("in {left}"));
    format!(
        "A new key is being made known to the other nodes; it comes into use {when}.\n  \
         old: {}\n  new: {}\n",
        rotation.old_public_key, rotation.new_public_key
    )
}

/// Asks until the new key is in use. The agent may be started again meanwhile.
async fn wait(server: &Server, rotation: &KeyRotation) -> Result<(), Failure> {
    let planned = |rotation: &KeyRotation| at(rotation.in_use_from.as_ref());
    let mut deadline = planned(rotation).unwrap_or_else(SystemTime::now) + PATIENCE;
    loop {
        match ask(server).await {
            Ok(status) if is_in_use(&status, rotation) => return Ok(()),
            Ok(status) => {
                // An agent that was started again has put it off.
                let now_planned = status.rotation.as_ref().and_then(planned);
                deadline = now_planned.map_or(deadline, |planned| deadline.max(planned + PATIENCE));
            }
            Err(Failure::Unreachable(_)) => {}
            Err(failure) => return Err(failure),
        }
        if SystemTime::now() > deadline {
            return Err(Failure::Degraded(
                "the new key should be in use by now and is not: `weir encrypt status` says more"
                    .to_owned(),
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(server: &Server) -> Result<EncryptionStatusResponse, Failure> {
    let mut client = server.admin().await?;
    let answer = client.encryption_status(EncryptionStatusRequest {}).await?;
    Ok(answer.into_inner())
}

fn is_in_use(status: &EncryptionStatusResponse, rotation: &KeyRotation) -> bool {
    status.public_key == rotation.new_public_key && status.rotation.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    fn rotation() -> KeyRotation {
        KeyRotation {
            old_public_key: "OLD=".into(),
            new_public_key: "NEW=".into(),
            in_use_from: Some(Timestamp {
                seconds: 1_030,
                nanos: 0,
            }),
            ..KeyRotation::default()
        }
    }

    #[test]
    fn both_keys_and_the_time_are_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(
            text(&rotation(), now),
            "A new key is being made known to the other nodes; it comes into use in 30s.\n  \
             old: OLD=\n  new: NEW=\n"
        );
    }

    #[test]
    fn it_is_in_use_when_the_device_has_it_and_nothing_is_under_way() {
        let status = |key: &str, under_way: bool| EncryptionStatusResponse {
            public_key: key.into(),
            rotation: under_way.then(rotation),
            ..EncryptionStatusResponse::default()
        };
        assert!(!is_in_use(&status("OLD=", true), &rotation()));
        assert!(!is_in_use(&status("OLD=", false), &rotation()));
        assert!(is_in_use(&status("NEW=", false), &rotation()));
    }
}
