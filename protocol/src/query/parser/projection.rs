//! The projection and the `GROUP BY` properties.

use std::collections::BTreeSet;

use super::Parser;
use crate::query::MAX_GROUP_BY;
use crate::query::ast::{
    Aggregate, Path, Projection, ProjectionItem, ProjectionValue, Query, Source,
};
use crate::query::error::QueryError;
use crate::query::lexer::Excerpt;
use crate::query::rows::column_names;

impl Parser<'_> {
    /// The projection, with the index of each item's first token.
    pub(super) fn projection(&mut self) -> Result<(Projection, Vec<usize>), QueryError> {
        if self.eat_symbol("*") {
            return Ok((Projection::All, Vec::new()));
        }
        let items = self.list(|parser| Ok((parser.item()?, parser.item_at)))?;
        let (items, item_tokens) = items.into_iter().unzip();
        Ok((Projection::Items(items), item_tokens))
    }

    fn item(&mut self) -> Result<ProjectionItem, QueryError> {
        self.item_at = self.next;
        let value = match self.aggregate()? {
            Some(aggregate) => ProjectionValue::Aggregate(aggregate),
            None if self.is_name() => ProjectionValue::Path(self.path()?),
            None => {
                return Err(self.unexpected("`*`, a property or one of COUNT, AVG, SUM, MIN, MAX"));
            }
        };
        let alias = if self.eat_keyword("AS") {
            Some(self.name("a name for the answer")?.to_owned())
        } else {
            None
        };
        Ok(ProjectionItem { value, alias })
    }

    fn aggregate(&mut self) -> Result<Option<Aggregate>, QueryError> {
        type OfPath = fn(Path) -> Aggregate;
        const OF_PATH: [(&str, OfPath); 4] = [
            ("AVG", Aggregate::Average),
            ("SUM", Aggregate::Sum),
            ("MIN", Aggregate::Minimum),
            ("MAX", Aggregate::Maximum),
        ];
        let Some(word) = self.called() else {
            return Ok(None);
        };
        let of_path = OF_PATH
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        if of_path.is_none() && !word.eq_ignore_ascii_case("COUNT") {
            return Err(self.unexpected("COUNT, AVG, SUM, MIN or MAX"));
        }
        if self.source == Source::Jobs {
            let message = format!("{} is not supported for devices.jobs", Excerpt(word));
            return Err(self.error_here(message, "`*` or properties"));
        }
        // Skip the name and the `(`.
        self.next += 2;
        let aggregate = match of_path {
            Some((_, make)) => make(self.path()?),
            None => Aggregate::Count,
        };
        self.expect_symbol(")")?;
        Ok(Some(aggregate))
    }

    /// The properties after `GROUP BY`; `at` is the index of `GROUP`.
    pub(super) fn group_by(
        &mut self,
        at: usize,
        projection: &Projection,
    ) -> Result<Vec<Path>, QueryError> {
        if *projection == Projection::All {
            let message = "`*` cannot be grouped".to_owned();
            return Err(self.error_at(
                at,
                message,
                "the end, or properties and aggregates instead of `*`",
            ));
        }
        let first = self.next;
        let paths = self.list(Self::path)?;
        if paths.len() > MAX_GROUP_BY {
            let message = format!("{} properties to group by", paths.len());
            return Err(self.error_at(first, message, format!("at most {MAX_GROUP_BY}")));
        }
        Ok(paths)
    }

    /// Checks that each item has a unique name and, in a grouped query, one value per row.
    /// `item_tokens` are the indices of the items' first tokens.
    pub(super) fn check_items(
        &self,
        query: &Query,
        item_tokens: &[usize],
    ) -> Result<(), QueryError> {
        let items = query.items();
        let names = column_names(items);
        let mut known = BTreeSet::new();
        for (name, &at) in names.iter().zip(item_tokens) {
            if !known.insert(name) {
                let message = format!("duplicate name `{}` in the answer", Excerpt(name));
                return Err(self.error_at(at, message, "AS and another name"));
            }
        }
        if !query.is_grouped() {
            return Ok(());
        }
        for (item, &at) in items.iter().zip(item_tokens) {
            match &item.value {
                ProjectionValue::Path(path) if !query.group_by.contains(path) => {
                    let path = path.to_string();
                    let message = format!("`{}` differs within a group", Excerpt(&path));
                    let expected =
                        "one of the properties of GROUP BY, or COUNT, AVG, SUM, MIN, MAX";
                    return Err(self.error_at(at, message, expected));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
