//! Results as bytes that clients read. Which format is wanted is decided here; each has a file.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use graticule_common::assembly::{Finished, Outcome};
use graticule_common::block::{Block, DType, Kind, Samples};
use graticule_common::error::{ErrorClass, listing};
use graticule_common::ops::Props;
use http_body::{Frame, SizeHint};
use serde_json::Value;

use super::error::HttpError;
use super::gather::Share;

pub(super) mod arrow;
pub(crate) mod npy;
pub(super) mod npz;
pub(super) mod pickle;

/// A format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// What the published client reads.
    Pickle,
    /// Arrays for numpy.
    Npz,
    /// A table with a row for each pixel.
    Arrow,
    /// A Cloud-Optimized GeoTIFF.
    GeoTiff,
    /// A picture.
    Png,
}

impl Format {
    /// Every format with its media type.
    const ALL: [(Format, &'static str); 5] = [
        (Format::Pickle, "application/octet-stream"),
        (Format::Npz, "application/x-npz"),
        (Format::Arrow, "application/vnd.apache.arrow.stream"),
        (Format::GeoTiff, "image/tiff"),
        (Format::Png, "image/png"),
    ];

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        Format::ALL.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    /// How often a result is in memory at a time while it becomes bytes, at most.
    pub(super) fn copies(self) -> u64 {
        match self {
            Format::Pickle | Format::Arrow => 1,
            Format::Npz | Format::GeoTiff | Format::Png => 2,
        }
    }

    /// The format that a client accepts most gladly; without a word, what the published client reads.
    ///
    /// # Errors
    /// There is none of those that it accepts.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Format, HttpError> {
        let texts = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or_default());
        let text = texts.collect::<Vec<_>>().join(",");
        if text.trim().is_empty() {
            return Ok(Format::Pickle);
        }
        let mut best: Option<(Format, f32)> = None;
        for range in text.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let format = match name.as_str() {
                "*/*" | "application/*" => Some(Format::Pickle),
                "image/*" => Some(Format::Png),
                name => Format::ALL.iter().find(|(_, known)| *known == name).map(|(format, _)| *format),
            };
            if let Some(format) = format
                && quality > best.map_or(0.0, |(_, quality)| quality)
            {
                best = Some((format, quality));
            }
        }
        best.map(|(format, _)| format).ok_or_else(|| {
            let known = listing(Format::ALL.iter().map(|(_, name)| name));
            HttpError::invalid(format!("no result can be given as `accept` asks; there are {known}"))
        })
    }
}

/// The one result that a format holds; `name` chooses of several.
///
/// # Errors
/// There are several and none is chosen, or it is not there.
pub(super) fn choose(mut results: Vec<Finished>, name: Option<&str>) -> Result<Finished, HttpError> {
    let names = listing(results.iter().map(|result| &result.name));
    let at = match name {
        None if results.len() == 1 => Some(0),
        None => {
            let message = format!("the graft returns several results: {names}; choose one with `result`");
            return Err(HttpError::new(ErrorClass::Impossible, message).at("/result"));
        }
        Some(name) => results.iter().position(|result| result.name == name),
    };
    let missing = || {
        let message = format!("the graft returns no such result; it returns {names}");
        HttpError::not_found(message).at("/result")
    };
    at.map(|at| results.swap_remove(at)).ok_or_else(missing)
}

/// A result's metadata: a dict, or a list of dicts for images.
pub(super) fn properties(props: &Props) -> Value {
    let mut dicts = props.dicts().map(|dict| Value::Object(dict.into_iter().collect()));
    match props.images() {
        Some(_) => dicts.collect(),
        None => dicts.next().unwrap_or_else(|| Value::Object(serde_json::Map::new())),
    }
}

/// Metadata of an outcome.
pub(super) fn props_of(outcome: &Outcome) -> &Props {
    match outcome {
        Outcome::Value { props, .. } | Outcome::Array { props, .. } | Outcome::Raster { props, .. } => props,
    }
}

/// Lengths of a block's axes: images, bands, rows, columns.
pub(crate) fn axes(block: &Block) -> Vec<u64> {
    let (rows, cols) = block.shape();
    let (rows, cols) = (u64::from(rows), u64::from(cols));
    match block.kind() {
        Kind::Number => vec![],
        Kind::Array(shape) => shape.axes().iter().map(|axis| u64::from(*axis)).collect(),
        Kind::Mosaic { bands } => vec![bands.into(), rows, cols],
        Kind::Stack { images, bands } => vec![images.into(), bands.into(), rows, cols],
    }
}

/// How numpy writes a type.
pub(crate) fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 if cfg!(target_endian = "big") => ">f4",
        DType::F32 => "<f4",
        DType::Bool => "|b1",
    }
}

/// A block's values, and where they are invalid, as bytes in C order: the block's own memory.
pub(super) fn into_bytes(block: Block, share: &Arc<Share>) -> (Bytes, Bytes) {
    let (samples, mut valid) = block.into_parts();
    // numpy's masks say what is invalid.
    valid.iter_mut().for_each(|valid| *valid ^= 1);
    let share = || Some(share.clone());
    let values = match samples {
        Samples::F32(values) => Bytes::from_owner(Owned { values, _share: share() }),
        Samples::Bool(values) => Bytes::from_owner(Owned { values, _share: share() }),
    };
    (values, Bytes::from_owner(Owned { values: valid, _share: share() }))
}

/// Values whose memory is counted until the last byte of them has gone.
struct Owned<T> {
    values: Vec<T>,
    _share: Option<Arc<Share>>,
}

impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.values)
    }
}

/// Bytes whose memory is counted until the last of them has gone.
pub(super) fn counted(values: Vec<u8>, share: &Arc<Share>) -> Bytes {
    Bytes::from_owner(Owned { values, _share: Some(share.clone()) })
}

/// Bytes in pieces, written without copying what is large.
#[derive(Default)]
pub(super) struct Writer {
    pieces: VecDeque<Bytes>,
    open: Vec<u8>,
}

impl Writer {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    pub(super) fn put_large(&mut self, bytes: Bytes) {
        if !self.open.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.open).into());
        }
        self.pieces.push_back(bytes);
    }

    pub(super) fn finish(mut self) -> Pieces {
        self.put_large(Bytes::new());
        self.pieces.retain(|piece| !piece.is_empty());
        Pieces(self.pieces)
    }
}

/// A body whose length is known.
#[derive(Debug)]
pub(super) struct Pieces(VecDeque<Bytes>);

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Pieces(VecDeque::from([bytes]))
    }
}

impl Pieces {
    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }

    #[cfg(test)]
    pub(super) fn concat(&self) -> Vec<u8> {
        self.0.iter().flat_map(|piece| piece.to_vec()).collect()
    }
}

/// Bytes of one frame: what is on its way to a slow client.
const FRAME_BYTES: usize = 256 << 10;

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(front) = self.0.front_mut() else { return Poll::Ready(None) };
        let piece = front.split_to(front.len().min(FRAME_BYTES));
        if front.is_empty() {
            self.0.pop_front();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn which_format_is_wanted() {
        let of = |texts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            texts.iter().for_each(|text| _ = headers.append(header::ACCEPT, HeaderValue::from_static(text)));
            Format::accepted(&headers)
        };
        assert_eq!(of(&[]), Ok(Format::Pickle));
        assert_eq!(of(&["*/*"]), Ok(Format::Pickle));
        assert_eq!(of(&[""]), Ok(Format::Pickle));
        for (format, name) in Format::ALL {
            assert_eq!(of(&[name]), Ok(format));
        }
        assert_eq!(of(&["text/html, image/tiff;q=0.5, Image/PNG;q=0.9"]), Ok(Format::Png));
        assert_eq!(of(&["text/html", "application/x-npz"]), Ok(Format::Npz));
        assert_eq!(of(&["image/tiff, */*;q=0.1"]), Ok(Format::GeoTiff));
        for none in ["text/html", "image/tiff;q=0", ",", "image/jpeg"] {
            assert_eq!(of(&[none]).unwrap_err().class, ErrorClass::InvalidRequest, "{none}");
        }
    }

    #[tokio::test]
    async fn a_body_has_its_length_and_its_bytes() {
        use http_body_util::BodyExt;
        let mut writer = Writer::default();
        writer.put(b"ab");
        writer.put_large(Bytes::from(vec![7; FRAME_BYTES + 1]));
        writer.put(b"c");
        let pieces = writer.finish();
        assert_eq!(pieces.size_hint().exact(), Some(FRAME_BYTES as u64 + 4));
        let expect = pieces.concat();
        assert_eq!(pieces.into_body().collect().await.unwrap().to_bytes(), expect);
    }
}
