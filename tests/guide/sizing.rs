//! The figures of the chapter on sizing are those that were measured.

use crate::markdown::Chapter;
use crate::{LANGUAGES, chapter, repository};

/// Rows of the measurements, and where the chapter has them: the row of its table of memory, counted from the first.
const MEMORY: [(&str, usize); 3] = [("H1", 1), ("H2", 2), ("H3", 3)];

/// Octets as `0.6 kB`, in German `0,6 kB`.
fn octets(cell: &str) -> f64 {
    let kilobytes = cell.strip_suffix(" kB").expect("a figure in kB").replace(',', ".");
    kilobytes.parse::<f64>().expect("a number") * 1000.0
}

#[test]
fn memory_is_what_was_measured() {
    let measured = Chapter::read(&repository("docs/performance/compare.md")).rows();
    for language in LANGUAGES {
        let rows = chapter(language, "sizing.md").rows();
        let process = rows.iter().position(|row| row.cells[1] == "20 MB").expect("the process itself");
        for (name, offset) in MEMORY {
            let row = measured.iter().find(|row| row.cells[0] == name).expect("a row of the measurements");
            let measured: f64 = row.cells[3].parse().expect("a number");
            let said = octets(&rows[process + offset].cells[1]);
            assert!(
                said > measured * 0.9 && said < measured * 1.3,
                "{language}: {name}: {said}, not {measured}"
            );
        }
    }
}
