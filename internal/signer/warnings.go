package signer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// listWarnings says what may be a mistake in a plan on the list before. known has the names that were ever listed.
func listWarnings(p trust.Plan, before []trust.Release, known *trust.Ledger) []string {
	return slices.Concat(productWarnings(p, before, known), withdrawnWarnings(p, known), olderWarnings(p, before), emptyWarnings(p, before))
}

// productWarnings names the products of which no update was ever listed. It returns nothing for the first list of all.
func productWarnings(p trust.Plan, before []trust.Release, known *trust.Ledger) []string {
	listed := map[update.Product]bool{}
	for n := range known.Names() {
		listed[n.Product()] = true
	}
	for _, r := range before {
		listed[r.Name().Product()] = true
	}
	if len(listed) == 0 {
		return nil
	}
	products := slices.Sorted(maps.Keys(listed))
	var out []string
	for _, r := range p.Added {
		product := r.Name().Product()
		if listed[product] {
			continue
		}
		listed[product] = true // name it once
		text := fmt.Sprintf("no update of the product %s was ever listed here", product)
		if near := nearProducts(product, products); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
		}
		out = append(out, text)
	}
	return out
}

// withdrawnWarnings names the updates that were listed before and withdrawn, and that the plan lists again.
func withdrawnWarnings(p trust.Plan, known *trust.Ledger) (out []string) {
	for _, r := range p.Added {
		if _, was := known.Digest(r.Name()); was {
			out = append(out, fmt.Sprintf("%v was withdrawn before, and is listed again", r.Name()))
		}
	}
	return out
}

// nearProducts returns those products that differ from p in at most two letters, and in less than half of them.
func nearProducts(p update.Product, products []update.Product) []string {
	var out []string
	for _, o := range products {
		if d := editDistance(string(p), string(o)); d <= 2 && 2*d < len(p) {
			out = append(out, string(o))
		}
	}
	return out
}

// editDistance returns how many bytes must be added, removed or replaced to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // of a[:i] to each b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// olderWarnings names the updates that are added below a version of their product that is listed already.
func olderWarnings(p trust.Plan, before []trust.Release) []string {
	var out []string
	for _, r := range p.Added {
		n := r.Name()
		newest := n
		for _, o := range before {
			if o.Name().Product() == n.Product() && o.Name().Version().Compare(newest.Version()) > 0 {
				newest = o.Name()
			}
		}
		if newest != n {
			out = append(out, fmt.Sprintf("%v is older than %v, the newest that is listed: boxes that take the newest skip this one", n, newest))
		}
	}
	return out
}

// emptyWarnings says that nothing is listed any more, or nothing of a product.
func emptyWarnings(p trust.Plan, before []trust.Release) []string {
	after := listAfter(p, before)
	if len(after) == 0 && len(before) > 0 {
		return []string{"the list becomes empty: no box can install anything, and /latest and /version answer 503"}
	}
	var out []string
	var told []update.Product
	for _, r := range before {
		product := r.Name().Product()
		same := func(o trust.Release) bool { return o.Name().Product() == product }
		if !slices.Contains(told, product) && !slices.ContainsFunc(after, same) {
			told = append(told, product)
			out = append(out, fmt.Sprintf("no update of the product %s stays listed", product))
		}
	}
	return out
}
