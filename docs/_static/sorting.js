/* Tables of the class "sortable": a click on a heading sorts the rows by that column, a second one the other way round. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    for (const table of document.querySelectorAll("table.sortable"))
        table.querySelectorAll("thead th").forEach((heading, column) => makeSortable(table, heading, column));
});

function makeSortable(table, heading, column) {
    heading.tabIndex = 0;
    heading.setAttribute("role", "button");
    heading.title = "sort";
    const sort = () => {
        const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const body = table.tBodies[0], value = row => row.cells[column].textContent.trim();
        const order = (a, b) => sign * value(a).localeCompare(value(b), "en", { numeric: true });
        body.append(...[...body.rows].sort(order));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
