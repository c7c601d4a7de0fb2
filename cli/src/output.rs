//! Results as files: GeoTIFF, PNG, npz, and metadata as JSON. A file appears complete or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::grid::Grid;
use graticule_common::literal::Literal;
use graticule_common::ops::Props;
use graticule_coordinator::render::{self, Colormap, Style};
use graticule_worker::sink::{RasterFile, SinkError, write_geotiff};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{NpzWriter, WritableElement};

use crate::failure::Failure;

/// A result, whole.
#[derive(Debug)]
pub enum Outcome {
    /// A number for the whole area.
    Number(Literal),
    /// Pixels.
    Raster {
        /// Where they lie.
        grid: Grid,
        /// The pixels.
        block: Block,
        /// Their metadata.
        props: Props,
    },
}

/// A file to write, its kind known by its ending.
#[derive(Clone, Debug)]
pub struct Output {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    GeoTiff,
    Png,
    Npz,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let format = match ending.as_deref() {
            Some("tif" | "tiff") => Format::GeoTiff,
            Some("png") => Format::Png,
            Some("npz") => Format::Npz,
            _ => return Err("the file must end in .tif, .png or .npz".into()),
        };
        Ok(Output { path, format })
    }
}

impl Output {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a result. `colormap` colours pictures of one band.
    pub fn write(&self, outcome: &Outcome, colormap: Colormap) -> Result<(), Failure> {
        match (self.format, outcome) {
            (Format::Npz, _) => self.write_npz(outcome),
            (Format::GeoTiff | Format::Png, Outcome::Number(number)) => {
                let message = format!(
                    "the result is the number {number}, not a raster; write it to .npz or without --out"
                );
                Err(Failure::new(ErrorClass::Impossible, message))
            }
            (Format::GeoTiff, Outcome::Raster { grid, block, props }) => {
                let raster = RasterFile { grid, block, band_names: band_names(block, props) };
                write_geotiff(&self.path, &raster).map_err(|error| match error {
                    SinkError::Write { .. } => Failure::io(error),
                    error => Failure::of(error),
                })
            }
            (Format::Png, Outcome::Raster { block, .. }) => {
                let picture =
                    render::png(block, &Style { colormap, ..Style::default() }).map_err(Failure::of)?;
                write_whole(&self.path, |file| file.write_all(&picture))
            }
        }
    }

    fn write_npz(&self, outcome: &Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Number(Literal::Bool(value)) => self.write_arrays(&[], vec![*value], vec![false]),
            Outcome::Number(number) => {
                self.write_arrays(&[], vec![number.as_f64().unwrap_or(f64::NAN)], vec![false])
            }
            Outcome::Raster { block, .. } => {
                let (rows, cols) = block.shape();
                let shape: Vec<usize> = match block.kind() {
                    Kind::Number => vec![],
                    Kind::Mosaic { bands } => vec![bands as usize, rows as usize, cols as usize],
                    Kind::Stack { images, bands } => {
                        vec![images as usize, bands as usize, rows as usize, cols as usize]
                    }
                };
                // numpy.ma's masks say what is invalid.
                let mask = block.valid().iter().map(|valid| *valid == 0).collect();
                match block.samples() {
                    Samples::F32(values) => self.write_arrays(&shape, values.clone(), mask),
                    Samples::Bool(values) => {
                        self.write_arrays(&shape, values.iter().map(|value| *value != 0).collect(), mask)
                    }
                }
            }
        }
    }

    fn write_arrays<T: WritableElement>(
        &self,
        shape: &[usize],
        data: Vec<T>,
        mask: Vec<bool>,
    ) -> Result<(), Failure> {
        let array = |error: ndarray::ShapeError| Failure::new(ErrorClass::Internal, error);
        let data = ArrayD::from_shape_vec(IxDyn(shape), data).map_err(array)?;
        let mask = ArrayD::from_shape_vec(IxDyn(shape), mask).map_err(array)?;
        write_whole(&self.path, |file| {
            let mut npz = NpzWriter::new_compressed(file);
            npz.add_array("data", &data).map_err(std::io::Error::other)?;
            npz.add_array("mask", &mask).map_err(std::io::Error::other)?;
            npz.finish().map(drop).map_err(std::io::Error::other)
        })
    }
}

/// Writes metadata: an object for a mosaic, a list of objects for a stack.
pub fn write_properties(path: &Path, outcome: &Outcome) -> Result<(), Failure> {
    let properties = match outcome {
        Outcome::Number(_) => Ok(serde_json::Value::Object(Default::default())),
        Outcome::Raster { props, .. } => {
            let mut dicts: Vec<_> = props.dicts().collect();
            if props.images().is_some() {
                serde_json::to_value(dicts)
            } else {
                serde_json::to_value(dicts.pop())
            }
        }
    };
    let text = properties.and_then(|properties| serde_json::to_string_pretty(&properties));
    let text = text.map_err(|error| Failure::new(ErrorClass::Internal, error))?;
    write_whole(path, |file| writeln!(file, "{text}"))
}

/// Names of the bands; their positions where they have no names.
fn band_names(block: &Block, props: &Props) -> Vec<String> {
    let bands = block.kind().bands().unwrap_or(0);
    let known = props.bands().filter(|names| names.len() == bands as usize);
    let names = known.unwrap_or_else(|| (1..=bands).map(|at| format!("band {at}")).collect());
    if props.images().is_none() {
        return names;
    }
    props
        .dicts()
        .flat_map(|image| {
            let id = image.get("id").and_then(serde_json::Value::as_str).unwrap_or("image").to_owned();
            names.iter().map(move |name| format!("{id}:{name}"))
        })
        .collect()
}

/// Writes a file beside its place and moves it there when it is complete and on the disk.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let finish = || {
        let mut file = tempfile::Builder::new().prefix(".graticule-").suffix(".part").tempfile_in(folder)?;
        write(file.as_file_mut())?;
        file.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is private; a result is like any other file of its user.
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    finish().map_err(|error| Failure::file(path, "write", error))
}
