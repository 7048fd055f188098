import "../core/theme.css";
