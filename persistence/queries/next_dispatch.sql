SELECT next_dispatch() AS seconds
