// What the status page can do beyond being read: copy, and sort its list.
"use strict";

// The commands name the server by the address that the reader came by.
const here = location.origin + location.pathname.replace(/\/+$/, "");
const server = document.getElementById("server");
if (server && /^https?:[\w.:/[\]~-]+$/.test(here)) {
	server.textContent = here;
}

async function copy(text) {
	if (navigator.clipboard) { // there is none on pages that came without TLS
		await navigator.clipboard.writeText(text);
		return;
	}
	const field = document.createElement("textarea");
	field.value = text;
	document.body.append(field);
	field.select();
	const done = document.execCommand("copy");
	field.remove();
	if (!done) {
		throw new Error("the browser refused");
	}
}

for (const button of document.querySelectorAll("button[data-copy]")) {
	button.hidden = false;
	button.addEventListener("click", async () => {
		const status = document.getElementById("copied");
		try {
			await copy(document.getElementById(button.dataset.copy).textContent);
			status.textContent = "Copied.";
		} catch {
			status.textContent = "Not copied: select the text instead.";
		}
		button.focus();
	});
}

const digits = /^\d+$/;

function compare(a, b) {
	if (digits.test(a) && digits.test(b)) { // of any size
		return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
	}
	return a.localeCompare(b);
}

function value(row, column) {
	const cell = row.cells[column];
	return cell.dataset.sort ?? cell.querySelector("time")?.dateTime ?? cell.textContent;
}

function sort(table, header) {
	const down = header.ariaSort === "ascending";
	const rows = [...table.tBodies[0].rows];
	rows.sort((a, b) => compare(value(a, header.cellIndex), value(b, header.cellIndex)) * (down ? -1 : 1));
	table.tBodies[0].append(...rows);
	for (const other of header.parentNode.cells) {
		other.removeAttribute("aria-sort");
	}
	header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const header of document.querySelectorAll("#updates thead th:not(:last-child)")) {
	const button = document.createElement("button");
	button.type = "button";
	button.textContent = header.textContent;
	button.addEventListener("click", () => sort(header.closest("table"), header));
	header.replaceChildren(button);
}
