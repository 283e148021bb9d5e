//! `wsnapd volume`.

use indicatif::HumanBytes;

use crate::client::{Argument, Client};

use super::super::args::VolumeCommand;
use super::super::failure::Failure;
use super::super::output::{say, table};
use super::names::{find_volume, path, volume_name, volumes};
use super::progress::finish;

pub(super) async fn run(client: &Client, command: VolumeCommand) -> Result<(), Failure> {
    match command {
        VolumeCommand::List => {
            let rows: Vec<Vec<String>> = volumes(client)
                .await?
                .iter()
                .map(|volume| {
                    let blocks = volume.number("NumberOfBlocks").unwrap_or_default();
                    let bytes = blocks.saturating_mul(volume.number("BlockSize").unwrap_or_default());
                    let snapshot = volume.text("IsSnapshot").is_some_and(|text| text.eq_ignore_ascii_case("true"));
                    vec![
                        volume_name(volume).to_owned(),
                        HumanBytes(bytes).to_string(),
                        if snapshot { "snapshot" } else { "volume" }.to_owned(),
                        volume.text("ObjectId").unwrap_or_default().to_owned(),
                    ]
                })
                .collect();
            table(&["NAME", "SIZE", "KIND", "OBJECT ID"], &rows);
            Ok(())
        }
        VolumeCommand::Snapshot { volume, name } => {
            let found = find_volume(client, &volume).await?;
            let arguments: Vec<_> = name.iter().map(|name| ("ElementName", Argument::Text(name))).collect();
            let output = client.invoke(&path(&found)?, "CreateSnapshot", &arguments).await?;
            let what = format!("snapshot of {}", volume_name(&found));
            finish(client, &output, &what).await?;
            say(format_args!("{what}: done"));
            Ok(())
        }
    }
}
