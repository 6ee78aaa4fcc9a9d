//! The comparison itself: what stands at a path beside what the base has there.
//!
//! Owns: the walk over changed nodes, and the walk over a whole directory where a
//! renamed one was put. What neither side changed is not looked at.

use super::*;

pub(super) struct Diff<'a> {
    pub(super) base: &'a dyn Base,
    pub(super) out: Vec<Change>,
}

impl Diff<'_> {
    /// Compares what stands at a path with what the base has there.
    pub(super) fn place(&mut self, place: &Place<'_>, here: Option<&BaseEntry>) -> io::Result<()> {
        let untouched = (place.through.as_ref()).is_some_and(|(path, _)| *path == place.path);
        match place.shown {
            Shown::Base if untouched => return Ok(()),
            Shown::Node(node) if untouched && place.is_dir() => {
                return self.kids(place, node, here);
            }
            Shown::Node(node) if node.transient => return self.deleted(&place.path, here),
            _ => {}
        }
        if place.is_dir() {
            return self.whole(place, here);
        }
        let Some((mode, content)) = place.file() else {
            return self.deleted(&place.path, here);
        };
        self.file(place, here, mode, content)
    }

    /// An unmoved directory: only the names that entries touched can differ.
    fn kids(&mut self, place: &Place<'_>, node: &Node, here: Option<&BaseEntry>) -> io::Result<()> {
        let list = match here {
            Some(entry) if entry.kind == BaseKind::Dir => Some(self.base.list(&entry.oid)?),
            _ => None,
        };
        for (name, slot) in &node.kids {
            let Ok(path) = place.path.join(name) else {
                continue;
            };
            let before = list.as_ref().and_then(|list| child(list, name));
            match slot {
                Slot::Gone => self.deleted(&path, before)?,
                Slot::Here(kid) => {
                    let kid_place = Place {
                        path,
                        shown: Shown::Node(kid),
                        through: through(self.base, kid)?,
                    };
                    self.place(&kid_place, before)?;
                }
            }
        }
        Ok(())
    }

    /// A directory that is new in its place: every path beneath counts.
    fn whole(&mut self, place: &Place<'_>, here: Option<&BaseEntry>) -> io::Result<()> {
        let list = match here {
            Some(entry) if entry.kind == BaseKind::Dir => Some(self.base.list(&entry.oid)?),
            Some(_) => {
                self.deleted(&place.path, here)?;
                None
            }
            None => None,
        };
        let mut seen = BTreeSet::new();
        for kid in children(self.base, place)? {
            let name = kid.path.name().to_vec();
            let before = list.as_ref().and_then(|list| child(list, &name));
            self.place(&kid, before)?;
            seen.insert(name);
        }
        for entry in list.iter().flat_map(|list| list.iter()) {
            if !seen.contains(&entry.name)
                && let Ok(path) = place.path.join(&entry.name)
            {
                self.deleted(&path, Some(entry))?;
            }
        }
        Ok(())
    }

    fn deleted(&mut self, path: &RepoPath, here: Option<&BaseEntry>) -> io::Result<()> {
        match here {
            None => {}
            Some(entry) if entry.kind == BaseKind::Dir => {
                for kid in self.base.list(&entry.oid)?.iter() {
                    if let Ok(below) = path.join(&kid.name) {
                        self.deleted(&below, Some(kid))?;
                    }
                }
            }
            Some(_) => self.out.push(Change {
                path: path.clone(),
                status: Status::Deleted,
                mode: None,
                content: Content::None,
                from: None,
            }),
        }
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        here: Option<&BaseEntry>,
        mode: FileMode,
        content: Content,
    ) -> io::Result<()> {
        let is_file =
            |entry: &&BaseEntry| matches!(entry.kind, BaseKind::File { .. } | BaseKind::Symlink);
        let before = here.filter(is_file);
        if here.is_some() && before.is_none() {
            self.deleted(&place.path, here)?;
        }
        let same_bytes = match (&content, &place.through, before) {
            (Content::Base(_), Some((_, through)), Some(before)) => through.oid == before.oid,
            _ => false,
        };
        let was_link = before.is_some_and(|entry| entry.kind == BaseKind::Symlink);
        let from = match &content {
            Content::Base(path) if *path != place.path => Some(path.clone()),
            _ => None,
        };
        let status = match before {
            None if from.is_some() => Status::Renamed,
            None => Status::Added,
            Some(_) if was_link != (mode == FileMode::Symlink) => Status::Retyped,
            Some(entry) if same_bytes && base_mode(entry) == mode => return Ok(()),
            Some(_) => Status::Modified,
        };
        self.out.push(Change {
            path: place.path.clone(),
            status,
            mode: Some(mode),
            content,
            from: from.filter(|_| status == Status::Renamed),
        });
        Ok(())
    }
}
