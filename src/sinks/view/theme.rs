//! The colours and marks of the live view.

use crate::ui;
use ratatui::style::{Color, Modifier, Style};

/// Images whose loss and accuracy the view shows. Each kind has a mark besides its colour, so that the view can be read
/// without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    Training,
    Validation,
    Test,
}

impl Series {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The mark of each of its points. None if it is a line.
    pub fn mark(self) -> Option<&'static str> {
        match self {
            Self::Training => None,
            Self::Validation => Some("×"),
            Self::Test => Some("•"),
        }
    }
}

/// How the view looks on this terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Without colours.
    Plain,
    /// With the nearest of the 256 colours that every terminal has.
    Palette,
    /// With exact colours.
    Exact,
}

/// Three of the colours of Okabe and Ito 2008, which people with any kind of colour blindness can tell apart: exactly,
/// and the nearest in the palette of 256 colours.
const BLUE: (Color, Color) = (Color::Rgb(0, 114, 178), Color::Indexed(31));
const VERMILION: (Color, Color) = (Color::Rgb(213, 94, 0), Color::Indexed(166));
const GREEN: (Color, Color) = (Color::Rgb(0, 158, 115), Color::Indexed(36));

impl Theme {
    /// What this terminal can show, and the user wants.
    pub fn of_terminal() -> Self {
        let exact = |value: String| value == "truecolor" || value == "24bit";
        if !ui::has_colours() {
            Self::Plain
        } else if std::env::var("COLORTERM").is_ok_and(exact) {
            Self::Exact
        } else {
            Self::Palette
        }
    }

    /// The style of a kind of images.
    pub fn series(self, series: Series) -> Style {
        self.colour(match series {
            Series::Training => BLUE,
            Series::Validation => GREEN,
            Series::Test => VERMILION,
        })
    }

    /// What has no meaning of its own: axes, labels, units.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is to be seen first.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What went wrong.
    pub fn alarm(self) -> Style {
        self.colour(VERMILION).add_modifier(Modifier::BOLD)
    }

    fn colour(self, (exact, nearest): (Color, Color)) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Palette => Style::new().fg(nearest),
            Self::Exact => Style::new().fg(exact),
        }
    }
}
