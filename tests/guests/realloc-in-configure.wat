;; Hands out memory that it has not, from the first time on.
;; where: start
;; expect: realloc return: beyond end of memory
(func $on_realloc (param $address i32) (param $size i32) (result i32) (i32.const -64))
