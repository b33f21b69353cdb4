module github.com/openpowerquality/box-update-server/bench

go 1.26.0

require (
	github.com/openpowerquality/box-update-server v0.0.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/dsnet/compress v0.0.2-0.20230904184137-39efe44ab707 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/klauspost/readahead v1.4.0 // indirect
)

replace github.com/openpowerquality/box-update-server => ../
