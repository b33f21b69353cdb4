package pace

import "context"

type waitKey struct{}

// ObserveWaits returns a context in which begin is called with what is done whenever code that may take long says so by
// [Waiting]: "asking http://updates.example". The function that begin returns is called when that is over. Both may be
// called concurrently.
func ObserveWaits(ctx context.Context, begin func(what string) (end func())) context.Context {
	return context.WithValue(ctx, waitKey{}, begin)
}

// Waiting says what may take long now, to a person who sees nothing happen. The caller calls end when it is over.
func Waiting(ctx context.Context, what string) (end func()) {
	if begin, ok := ctx.Value(waitKey{}).(func(string) func()); ok {
		return begin(what)
	}
	return func() {}
}
