//! `resnet data`: the data sets on this machine.

mod show;

use crate::cli::{DataCommand, NamedDataset};
use crate::data::catalog::{self, DatasetInfo};
use crate::data::locate::{self, Found};
use crate::data::{self, Origin, Source, Split, verify};
use crate::error::{one_line, usage};
use crate::ui::{Ui, table};
use anyhow::{Result, anyhow, bail};
use indicatif::DecimalBytes;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs `resnet data …`.
pub fn run(command: &DataCommand, ui: &Ui) -> Result<()> {
    match command {
        DataCommand::List(args) => list(&args.source(), ui),
        DataCommand::Fetch(named) => fetch(dataset(named)?, &named.data.source(), ui),
        DataCommand::Verify(named) => verify(dataset(named)?, &named.data.source(), ui),
        DataCommand::Path(named) => path(dataset(named)?, &named.data.source(), ui),
        DataCommand::Show(args) => show::run(args, ui),
    }
}

fn dataset(named: &NamedDataset) -> Result<&'static DatasetInfo> {
    catalog::find(&named.dataset)
}

fn list(source: &Source, ui: &Ui) -> Result<()> {
    source.check()?;
    let header = ["name", "train", "test", "image", "classes", "download", "folder"];
    let mut lines = vec![header.map(str::to_owned)];
    for dataset in catalog::DATASETS {
        let folder = if dataset.is_built_in() { None } else { folder(dataset, source).ok() };
        let DatasetInfo { name, title, channels, height, width, .. } = *dataset;
        if ui.is_json() {
            ui.json(&json!({
                "name": name,
                "title": title,
                "train_images": dataset.train_images,
                "test_images": dataset.test_images,
                "channels": channels,
                "height": height,
                "width": width,
                "classes": dataset.classes,
                "download_bytes": dataset.download_bytes(),
                "path": folder,
                "built_in": dataset.is_built_in(),
            }));
        } else {
            lines.push([
                name.to_owned(),
                dataset.train_images.to_string(),
                dataset.test_images.to_string(),
                format!("{channels}×{height}×{width}"),
                dataset.classes.len().to_string(),
                match dataset.is_built_in() {
                    true => "none".to_owned(),
                    false => DecimalBytes(dataset.download_bytes()).to_string(),
                },
                match folder {
                    Some(folder) => folder.display().to_string(),
                    None if dataset.is_built_in() => "built in".to_owned(),
                    None => "not on this machine".to_owned(),
                },
            ]);
        }
    }
    if !ui.is_json() {
        ui.out(table(&lines, 1..6));
    }
    Ok(())
}

fn fetch(dataset: &DatasetInfo, source: &Source, ui: &Ui) -> Result<()> {
    let origin = data::fetch(dataset, source, ui)?;
    if ui.is_json() {
        ui.json(&json!({"name": dataset.name, "path": origin.folder()}));
        return Ok(());
    }
    ui.say(match origin {
        Origin::Folder(folder) => format!("{} is in {}, verified", dataset.name, folder.display()),
        Origin::BuiltIn => format!("{}: made by the program, nothing to fetch", dataset.name),
    });
    Ok(())
}

fn verify(dataset: &DatasetInfo, source: &Source, ui: &Ui) -> Result<()> {
    if dataset.is_built_in() {
        verify_built_in(dataset, ui);
        return Ok(());
    }
    let parts = dataset.parts(&Split::BOTH);
    let folder = folder(dataset, source).or_else(|missing| {
        // If some of the files are there, a report on each file helps more than a single error.
        let own = locate::download_folder(dataset, source)?;
        let some = parts.iter().any(|part| locate::find_part(&own, part).is_some());
        if some { Ok(own) } else { Err(missing) }
    })?;
    let mut bad = 0;
    for part in &parts {
        let file = part.file.name;
        let (path, result) = match locate::find_part(&folder, part) {
            Some(found) => {
                let result = verify::read(dataset, part, &found).map(|contents| contents.checked);
                (first_path(found), result)
            }
            None => {
                let path = folder.join(file);
                let missing = anyhow!("{}: is missing", path.display());
                (path, Err(missing))
            }
        };
        bad += usize::from(result.is_err());
        report(dataset, file, &path, result, ui);
    }
    if bad > 0 {
        bail!(
            "{bad} of {} files of {} in {} are missing or not the published ones; `{}` gets the published ones",
            parts.len(),
            dataset.name,
            folder.display(),
            locate::fetch_command(dataset, source)
        );
    }
    Ok(())
}

/// A built-in data set has no files that could be damaged.
fn verify_built_in(dataset: &DatasetInfo, ui: &Ui) {
    if ui.is_json() {
        ui.json(&json!({
            "name": dataset.name,
            "file": null,
            "path": null,
            "ok": true,
            "checked": null,
            "error": null,
        }));
    } else {
        ui.out(format!("ok   {}: made by the program, no files to check", dataset.name));
    }
}

/// The folder that holds all files of a data set.
fn folder(dataset: &DatasetInfo, source: &Source) -> Result<PathBuf> {
    let parts = dataset.parts(&Split::BOTH);
    let located = locate::find(dataset, &parts, source)?;
    let located = located.ok_or_else(|| locate::missing(dataset, &parts, source))?;
    Ok(located.folder)
}

/// The path of the compressed file, or of the first unpacked one.
fn first_path(found: Found) -> PathBuf {
    match found {
        Found::Packed(path) => path,
        Found::Unpacked(paths) => paths.into_iter().next().unwrap_or_default(),
    }
}

fn report(
    dataset: &DatasetInfo,
    file: &str,
    path: &Path,
    result: Result<verify::Checked>,
    ui: &Ui,
) {
    if ui.is_json() {
        ui.json(&json!({
            "name": dataset.name,
            "file": file,
            "path": path,
            "ok": result.is_ok(),
            "checked": result.as_ref().ok(),
            "error": result.as_ref().err().map(one_line),
        }));
        return;
    }
    ui.out(match result {
        Ok(verify::Checked::Sha256) => format!("ok   {}: SHA-256", path.display()),
        Ok(verify::Checked::Length) => format!(
            "ok   {}: length only, because no checksum of the unpacked file is published",
            path.display()
        ),
        Err(error) => format!("bad  {}", one_line(&error)),
    });
}

fn path(dataset: &DatasetInfo, source: &Source, ui: &Ui) -> Result<()> {
    if dataset.is_built_in() {
        return Err(usage(format!(
            "{}: is made by the program and has no folder; expected a data set with files",
            dataset.name
        )));
    }
    let folder = folder(dataset, source)?;
    if ui.is_json() {
        ui.json(&json!({"name": dataset.name, "path": folder}));
    } else {
        ui.out(folder.display().to_string());
    }
    Ok(())
}
