//! Arrays as numpy saves them (NEP 1: the `.npy` format, version 1.0).

/// What stands before an array's values in C order.
pub(crate) fn header(descr: &str, axes: &[u64]) -> Vec<u8> {
    let axes: Vec<String> = axes.iter().map(|axis| format!("{axis},")).collect();
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", axes.join(" "));
    /// Magic, version and length.
    const HEAD: usize = 10;
    /// The values begin at a multiple of this.
    const ALIGNED: usize = 64;
    let len = (HEAD + dict.len() + 1).next_multiple_of(ALIGNED) - HEAD;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // Four axes take a hundred bytes.
    header.extend_from_slice(&(len as u16).to_le_bytes());
    header.extend_from_slice(dict.as_bytes());
    header.resize(HEAD + len - 1, b' ');
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayD;
    use ndarray_npy::ReadNpyExt;

    #[test]
    fn another_library_reads_it() {
        for axes in [vec![], vec![3], vec![2, 1, 3], vec![2, 2, 3, 1], vec![0, 2]] {
            let len: u64 = axes.iter().product();
            let values: Vec<f32> = (0..len).map(|value| value as f32).collect();
            let mut file = header("<f4", &axes);
            assert_eq!(file.len() % 64, 0);
            file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let read = ArrayD::<f32>::read_npy(&file[..]).unwrap();
            let shape: Vec<u64> = read.shape().iter().map(|axis| *axis as u64).collect();
            assert_eq!((shape, read.into_raw_vec_and_offset().0), (axes, values));
        }
    }
}
