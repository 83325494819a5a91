//! Fenced blocks of a Markdown page.

use std::fmt;

/// A block; its place counts lines from 1, fences included.
#[derive(Debug)]
pub(crate) struct Block {
    page: String,
    pub(super) first_line: usize,
    pub(super) last_line: usize,
    pub(crate) language: String,
    /// What follows the language: `until: WORDS, exits: 0 or 2`.
    info: String,
    /// The reason of a comment `no-run: REASON` on the line above.
    pub(super) no_run: Option<String>,
    /// Without the indent of a list.
    pub(crate) text: String,
}

impl Block {
    fn stated(&self, name: &str) -> Option<&str> {
        let fields = self.info.split(", ");
        fields
            .filter_map(|field| field.trim().strip_prefix(name)?.strip_prefix(": "))
            .next()
    }

    /// What the block prints when it need not be repeated.
    pub(super) fn until(&self) -> Option<&str> {
        self.stated("until")
    }

    pub(super) fn exits(&self) -> Vec<i32> {
        let exits = self.stated("exits").unwrap_or("0");
        exits
            .split(" or ")
            .map(|status| {
                status
                    .parse()
                    .unwrap_or_else(|_| panic!("{self}: {exits:?}"))
            })
            .collect()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.page, self.first_line)
    }
}

/// All blocks of a page, in order.
pub(crate) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    let mut above = "";
    for (number, line) in (1..).zip(text.lines()) {
        let indent = line.len() - line.trim_start().len();
        let fence = line.trim_start().strip_prefix("```");
        open = match (open.take(), fence) {
            (None, Some(info)) => {
                let (language, info) = info.split_once(' ').unwrap_or((info, ""));
                let no_run = above
                    .trim()
                    .strip_prefix("<!-- no-run:")
                    .and_then(|reason| reason.strip_suffix("-->"));
                let block = Block {
                    page: page.to_owned(),
                    first_line: number,
                    last_line: number,
                    language: language.to_owned(),
                    info: info.to_owned(),
                    no_run: no_run.map(|reason| reason.trim().to_owned()),
                    text: String::new(),
                };
                Some((indent, block))
            }
            (Some((_, mut block)), Some("")) => {
                block.last_line = number;
                blocks.push(block);
                None
            }
            (Some((indent, mut block)), _) => {
                block.text += line.get(indent..).unwrap_or("");
                block.text.push('\n');
                Some((indent, block))
            }
            (None, None) => None,
        };
        above = line;
    }
    assert!(open.is_none(), "{page}: a block is not closed: {open:?}");
    blocks
}

#[test]
fn blocks_have_their_place_reason_and_text() {
    let page = "1. one:\n   <!-- no-run: as root -->\n   ```sh exits: 0 or 2\n   a\n     b\n\
                \x20  ```\n```sh until: x y, exits: 2\nc\n```\n";
    let all = blocks("page", page);
    assert_eq!(all[0].no_run.as_deref(), Some("as root"));
    assert_eq!((all[0].first_line, all[0].last_line), (3, 6));
    assert_eq!(all[0].text, "a\n  b\n");
    assert_eq!(all[0].exits(), [0, 2]);
    assert_eq!((all[1].until(), all[1].exits()), (Some("x y"), vec![2]));
}
